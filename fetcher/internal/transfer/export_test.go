package transfer

// FarStreams is how many streams a far host begins with.
const FarStreams = farStreams

// Target returns how many streams the host gets now.
func (h *Host) Target() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pace.target
}

// Running returns how many streams run.
func (h *Host) Running() int {
	n, _ := h.load()
	return n
}

// Watched returns how many connections and transfers the host knows.
func (h *Host) Watched() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.meters) + len(h.copies)
}

// Tick is a tick that comes as soon as this.
func (h *Host) Tick() { h.tick() }

// SetTarget gives the host so many streams, as if it had been found to be worth
// them.
func (h *Host) SetTarget(streams int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pace.target, h.pace.split = streams, true
}
