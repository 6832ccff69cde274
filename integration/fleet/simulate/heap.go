package simulate

// heap holds events, the earliest first; of events at one time, the one that was
// pushed first. It is written out, as container/heap takes several times as long.
type heap struct {
	items []item
	order uint64
}

type item struct {
	event
	order uint64
}

func (h *heap) before(i, j int) bool {
	a, b := &h.items[i], &h.items[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (h *heap) push(e event) {
	h.order++
	h.items = append(h.items, item{e, h.order})
	for i := len(h.items) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

// pop takes the earliest event; there is one.
func (h *heap) pop() event {
	first, last := h.items[0].event, len(h.items)-1
	h.items[0] = h.items[last]
	h.items = h.items[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h.items[i], h.items[least] = h.items[least], h.items[i]
		i = least
	}
}
