package grid

import (
	"fmt"
	"math"
)

// interval returns the 95 % confidence interval of a chance of which k of n
// trials came true, after Wilson: it holds for few trials, and for all or none.
func interval(k, n int) (lo, hi float64) {
	if n <= 0 {
		return 0, 1
	}
	const z = 1.96 // of the normal distribution, 95 % is within so many deviations
	t, p := float64(n), float64(k)/float64(n)
	mid := (p + z*z/(2*t)) / (1 + z*z/t)
	half := z / (1 + z*z/t) * math.Sqrt(p*(1-p)/t+z*z/(4*t*t))
	return max(mid-half, 0), min(mid+half, 1)
}

// between is the interval in words, in percent. It has a digit more where the
// trials are enough for it to matter.
func between(k, n int) string {
	lo, hi := interval(k, n)
	if n < 200 {
		return fmt.Sprintf("%.0f–%.0f %%", 100*lo, 100*hi)
	}
	return fmt.Sprintf("%.1f–%.1f %%", 100*lo, 100*hi)
}
