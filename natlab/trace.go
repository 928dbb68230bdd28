package natlab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// tailLines is how much of the trace a failing test shows.
	tailLines = 256
	// headerBytes is what a line of the trace is made from: IP and TCP headers
	// without options, or an ICMP error with what it quotes.
	headerBytes = 96
)

// trace writes down what becomes of packets. It always keeps its tail, cheaply:
// a line is put into words only when somebody reads it.
type trace struct {
	now      func() time.Duration
	captures bool // there is a pcap

	mu    sync.Mutex // guards following
	text  io.Writer  // may be nil
	pcap  io.Writer  // may be nil
	first error      // of a writer, which is not written to again
	tail  [tailLines]entry
	n     int  // entries so far
	ended bool // what happens while the lab is taken down is not of interest
}

// entry is one packet at one point.
type entry struct {
	at     time.Duration
	place  string
	what   string
	length int // of the packet
	header [headerBytes]byte
}

func newTrace(text, pcap io.Writer, now func() time.Duration) *trace {
	t := &trace{now: now, captures: pcap != nil, text: text, pcap: pcap}
	if pcap != nil {
		t.write(&t.pcap, pcapHeader())
	}
	return t
}

// record notes what becomes of a packet at a place.
func (t *trace) record(place, what string, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	e := &t.tail[t.n%tailLines]
	t.n++
	e.at, e.place, e.what, e.length = t.now(), place, what, len(b)
	clear(e.header[copy(e.header[:], b):])
	if t.text != nil {
		t.write(&t.text, append([]byte(e.String()), '\n'))
	}
}

// capture writes a packet to the pcap.
func (t *trace) capture(b []byte) {
	if !t.captures {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pcap != nil && !t.ended {
		t.write(&t.pcap, append(pcapRecord(time.Now(), len(b)), b...))
	}
}

// write writes to *w and forgets the writer after an error.
func (t *trace) write(w *io.Writer, b []byte) {
	if _, err := (*w).Write(b); err != nil {
		*w = nil
		if t.first == nil {
			t.first = fmt.Errorf("natlab: trace: %w", err)
		}
	}
}

// end ends the trace and returns the first error of its writers.
func (t *trace) end() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	return t.first
}

// String returns the tail of the trace.
func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	if t.n > tailLines {
		fmt.Fprintf(&b, "(%d lines before)\n", t.n-tailLines)
	}
	for i := max(0, t.n-tailLines); i < t.n; i++ {
		fmt.Fprintln(&b, &t.tail[i%tailLines])
	}
	return b.String()
}

// String is the line of the trace: time, place, what, source > destination,
// then the transport.
func (e *entry) String() string {
	h := e.header[:min(e.length, headerBytes)]
	return fmt.Sprintf("%11.6f %-14s %-18s %s", e.at.Seconds(), e.place, e.what, describe(h, e.length))
}

// describe puts a packet into words, of which header may be only the beginning.
func describe(header []byte, length int) string {
	if !valid(header) {
		return fmt.Sprintf("not IP, %d bytes", length)
	}
	src, dst := source(header), destination(header)
	proto, b := transport(header)
	length -= len(header) - len(b) // what follows the IP header
	switch {
	case proto == protoTCP && len(b) >= 20:
		return endpoints(src, dst, b) + describeTCP(b, length)
	case proto == protoTCP && len(b) >= 4: // quoted by an ICMP error
		return endpoints(src, dst, b) + " TCP"
	case proto == protoUDP && len(b) >= 8:
		return fmt.Sprintf("%s UDP len %d", endpoints(src, dst, b), length-8)
	case quoted(proto, b) != nil:
		q := quoted(proto, b)
		return fmt.Sprintf("%v > %v %s about [%s]", src, dst, icmpName(proto, b), describe(q, len(q)))
	case proto == protoICMP || proto == protoICMPv6:
		return fmt.Sprintf("%v > %v %s", src, dst, icmpName(proto, b))
	}
	return fmt.Sprintf("%v > %v protocol %d len %d", src, dst, proto, length)
}

func endpoints(src, dst netip.Addr, b []byte) string {
	return netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)).String() + " > " +
		netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])).String()
}

func describeTCP(b []byte, length int) string {
	var flags strings.Builder
	for i, name := range "FSRPAUEC" { // from the lowest bit, as tcpdump's letters
		if b[13]&(1<<i) != 0 {
			flags.WriteRune(name)
		}
	}
	return fmt.Sprintf(" %s seq %d ack %d len %d", flags.String(),
		binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), max(0, length-int(b[12]>>4)*4))
}

func icmpName(proto byte, b []byte) string {
	if len(b) < 2 {
		return "ICMP"
	}
	names := map[[2]byte]string{
		{protoICMP, 0}: "echo reply", {protoICMP, 3}: "unreachable", {protoICMP, 8}: "echo", {protoICMP, 11}: "time exceeded",
		{protoICMPv6, 1}: "unreachable", {protoICMPv6, 2}: "packet too big", {protoICMPv6, 3}: "time exceeded",
		{protoICMPv6, 128}: "echo", {protoICMPv6, 129}: "echo reply",
	}
	name := names[[2]byte{proto, b[0]}]
	if name == "" {
		name = fmt.Sprintf("type %d", b[0])
	}
	return fmt.Sprintf("ICMP %s (code %d)", name, b[1])
}

// The pcap file format is a header of 24 bytes and one of 16 before each
// packet, little-endian here (draft-ietf-opsawg-pcap).
const (
	pcapMagicNanos = 0xa1b23c4d // times are in nanoseconds
	pcapSnapLen    = 262144
	linkTypeRaw    = 101 // packets begin with the IP header, of either version
)

func pcapHeader() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, pcapMagicNanos)
	b = le.AppendUint16(b, 2) // version 2.4
	b = le.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...) // time zone and accuracy: always 0
	b = le.AppendUint32(b, pcapSnapLen)
	return le.AppendUint32(b, linkTypeRaw)
}

func pcapRecord(at time.Time, n int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 0, 16+n), uint32(at.Unix()))
	b = le.AppendUint32(b, uint32(at.Nanosecond()))
	b = le.AppendUint32(b, uint32(n))
	return le.AppendUint32(b, uint32(n))
}
