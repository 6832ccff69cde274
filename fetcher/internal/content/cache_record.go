package content

import (
	"encoding/binary"
	"hash/crc32"
)

// A stage is how far an entry is.
type stage byte

const (
	unknown stage = iota // nothing, or nothing that can be relied on
	partial              // received bytes of the blob are in partial/
	stored               // the blob in blobs/ had this stamp when its bytes were verified
	gone                 // the entry's file is about to lose its name
)

// A stamp is what the file system tells of a file. Two that are equal say that
// nothing was written to it in between: that would change ctime, which nobody
// can set. On kernels before 6.13 that holds but for changes within the clock
// tick of the stamp. All of an earlier boot are unlike those of this one, so
// that what a power failure left is read again before it is used.
type stamp struct {
	boot   [16]byte // zero: stamps are not known here, and none proves anything
	inode  uint64
	links  uint64
	size   int64
	mtime  int64 // ns
	ctime  int64 // ns
	device uint64
}

// A record is what an entry's file says.
type record struct {
	stage    stage
	received int64 // partial: so many first bytes are there
	stamp    stamp // stored
	marked   bool  // stored: the blob has the mark that a write takes away
}

// proves reports whether the file that has the stamp now is the one that was
// verified, with nothing written to it since. marked asks the file for its mark.
//
// A removed link changes ctime too, as when a directory that the blob was
// handed out to is cleared away: where the file has fewer links than it had, the
// mark stands in for ctime.
func (r record) proves(now stamp, marked func() bool) bool {
	if r.stage != stored || now.boot == [16]byte{} {
		return false
	}
	if now == r.stamp {
		return true
	}
	fewer := now.links < r.stamp.links
	now.links, now.ctime = r.stamp.links, r.stamp.ctime
	return fewer && now == r.stamp && r.marked && marked()
}

// A record on the disk:
//
//	0   4  "dfc1"
//	4   1  stage
//	5   1  1 if marked
//	6   2  zero
//	8   8  received
//	16 16  boot
//	32 48  inode, links, size, mtime, ctime, device
//	80  4  zero
//	84  4  CRC-32C of the bytes before
//
// all numbers little-endian. It is rewritten in place while others read it,
// hence the checksum.
const (
	recordMagic = "dfc1"
	recordSize  = 88
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r record) encode() []byte {
	b := append(make([]byte, 0, recordSize), recordMagic...)
	b = append(b, byte(r.stage), 0, 0, 0)
	if r.marked {
		b[5] = 1
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(r.received))
	b = append(b, r.stamp.boot[:]...)
	for _, n := range []uint64{r.stamp.inode, r.stamp.links, uint64(r.stamp.size), uint64(r.stamp.mtime), uint64(r.stamp.ctime), r.stamp.device} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	seal(b)
	return b
}

// seal writes the checksum.
func seal(b []byte) {
	end := recordSize - 4
	binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
}

// decode reads a record. One that is damaged, or not written yet, is the zero
// record: it promises nothing.
func decode(b []byte) record {
	if len(b) != recordSize {
		return record{}
	}
	end := recordSize - 4
	reserved := string(b[6:8]) + string(b[80:end])
	if string(b[:4]) != recordMagic || b[5] > 1 || reserved != "\x00\x00\x00\x00\x00\x00" {
		return record{}
	}
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return record{}
	}
	n := func(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) }
	r := record{stage: stage(b[4]), received: n(8), marked: b[5] == 1}
	copy(r.stamp.boot[:], b[16:])
	r.stamp.inode, r.stamp.links, r.stamp.device = uint64(n(32)), uint64(n(40)), uint64(n(72))
	r.stamp.size, r.stamp.mtime, r.stamp.ctime = n(48), n(56), n(64)
	if r.stage > gone || r.received < 0 {
		return record{}
	}
	return r
}
