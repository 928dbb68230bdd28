package predict

// NATs leave the well-known ports alone, so a counter wraps within these.
const (
	firstPort = 1024
	lastPort  = 65535
)

// Candidates returns at most n public ports that the next mapping of a socket
// with the given local port may get, the likeliest first, without repeats. It
// is a pure function of the model and its arguments, so both ends of a dial
// can compute the same list.
//
//   - Preserving: the local port, and then those after it, which is where such
//     a NAT looks when the port is taken.
//   - Sequential: the ports after the last one seen, in steps of Delta: a
//     window, because others behind the NAT connect too.
//   - Block: the ports of the block, spread evenly over it.
//   - Random and Unknown: none. A guess in all of 64 Ki ports is not a
//     candidate; guessing in numbers is the business of the punch.
func (m Model) Candidates(local uint16, n int) []uint16 {
	if n <= 0 {
		return nil
	}
	switch m.Kind {
	case Preserving:
		if local == 0 {
			return nil
		}
		return append([]uint16{local}, walk(local, 1, n-1)...)
	case Sequential:
		return walk(m.Last, m.Delta, n)
	case Block:
		return spread(m.Lo, m.Hi, n)
	}
	return nil
}

// walk returns up to n ports after start in steps of delta, wrapping as a
// NAT's counter does, and stops when it would come round to a port again.
func walk(start uint16, delta, n int) []uint16 {
	const size = lastPort - firstPort + 1
	if delta%size == 0 {
		return nil
	}
	n = min(n, size)
	ports := make([]uint16, 0, n)
	first := -1
	for p := int(start); len(ports) < n; {
		p = firstPort + mod(p-firstPort+delta, size)
		if p == first || p == int(start) {
			break
		}
		if first < 0 {
			first = p
		}
		ports = append(ports, uint16(p))
	}
	return ports
}

// spread returns up to n ports between lo and hi at even distances.
func spread(lo, hi uint16, n int) []uint16 {
	if lo > hi {
		return nil
	}
	size := int(hi) - int(lo) + 1
	n = min(n, size)
	ports := make([]uint16, n)
	for i := range ports {
		ports[i] = lo + uint16(i*size/n)
	}
	return ports
}

func mod(a, n int) int { return (a%n + n) % n }
