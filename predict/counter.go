package predict

// NATs leave the well-known ports alone (RFC 4787 REQ-3), so a counter of
// unknown bounds wraps within these.
const (
	firstPort = 1024
	lastPort  = 65535
)

// Counter is where a sequential NAT is expected to be: its port of index i is i
// steps of Delta after Base, round the ports from Lo to Hi. Zero Lo and Hi mean
// 1024 to 65535.
type Counter struct {
	Base   uint16
	Delta  int
	Lo, Hi uint16
}

// Counter returns the counter of a Sequential model, based at the port that the
// next mapping gets if no other host makes one before.
func (m Model) Counter() Counter {
	c := Counter{m.Last, m.Delta, m.Lo, m.Hi}
	c.Base = c.Port(1)
	return c
}

// Port returns the port of index i.
func (c Counter) Port(i int) uint16 {
	lo, size := c.bounds()
	// Reduced first, so that nothing overflows whatever a stranger's report says.
	return uint16(lo + mod(int(c.Base)-lo+mod(c.Delta, size)*mod(i, size), size))
}

// Period returns the number of indices after which the ports repeat.
func (c Counter) Period() int {
	_, size := c.bounds()
	return size / gcd(mod(c.Delta, size), size)
}

// bounds returns the range, widened to a Base outside: then the NAT does use
// such ports.
func (c Counter) bounds() (lo, size int) {
	l, h := int(c.Lo), int(c.Hi)
	if l > h || h == 0 {
		l, h = firstPort, lastPort
	}
	if c.Base != 0 {
		l, h = min(l, int(c.Base)), max(h, int(c.Base))
	}
	return l, h - l + 1
}

// Sweep returns up to count ports, from index 0 on in steps of stride, and
// stops where they would repeat.
func (c Counter) Sweep(count, stride int) []uint16 {
	period := c.Period()
	count = min(count, period/gcd(mod(stride, period), period))
	if count <= 0 {
		return nil
	}
	ports := make([]uint16, count)
	for i := range ports {
		ports[i] = c.Port(mod(stride, period) * i)
	}
	return ports
}

func mod(a, n int) int { return (a%n + n) % n }

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}
