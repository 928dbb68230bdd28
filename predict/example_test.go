package predict_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/predict"
)

func Example() {
	var samples []predict.Sample
	for i, port := range []uint16{50010, 50012, 50016} {
		samples = append(samples, predict.Sample{
			Local:  netip.AddrPortFrom(netip.MustParseAddr("192.168.1.5"), 40000+uint16(i)),
			Dst:    netip.MustParseAddrPort("198.51.100.1:3478"),
			Mapped: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), port),
			At:     time.Duration(i) * time.Millisecond,
		})
	}
	m := predict.Infer(samples)
	fmt.Println(m, m.Candidates(40003, 3))
	// Output: sequential +2 [50018 50020 50022]
}
