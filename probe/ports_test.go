package probe

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/predict"
)

// mapped makes samples of local ports and the public ones that they got.
func mapped(pairs ...[2]uint16) (s []predict.Sample) {
	for _, p := range pairs {
		s = append(s, predict.Sample{
			Local:  netip.AddrPortFrom(netip.MustParseAddr("192.168.1.5"), p[0]),
			Dst:    netip.MustParseAddrPort("192.0.2.1:3478"),
			Mapped: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), p[1]),
		})
	}
	return s
}

func TestParityAndContiguity(t *testing.T) {
	for _, tt := range []struct {
		name       string
		samples    []predict.Sample
		parity     Tri
		contiguity Tri
	}{
		{"nothing", nil, Unknown, Unknown},
		{"preserved", mapped([2]uint16{40000, 40000}, [2]uint16{40007, 40007}, [2]uint16{40001, 40001}, [2]uint16{40004, 40004}, [2]uint16{40010, 40010}, [2]uint16{40013, 40013}), Yes, Yes},
		{"parity alone", mapped([2]uint16{40000, 5000}, [2]uint16{40007, 61}, [2]uint16{40001, 7003}, [2]uint16{40004, 122}, [2]uint16{40010, 4}, [2]uint16{40013, 9}), Yes, No},
		{"too few to tell", mapped([2]uint16{40000, 5000}, [2]uint16{40007, 61}), Unknown, Unknown},
		{"only even ones", mapped([2]uint16{2, 10}, [2]uint16{4, 2000}, [2]uint16{6, 30}, [2]uint16{8, 40000}, [2]uint16{10, 500}, [2]uint16{12, 60000}), Unknown, Unknown},
		{"a counter makes neighbours of what follows", mapped([2]uint16{40000, 5000}, [2]uint16{40001, 5001}, [2]uint16{40002, 5002}), Unknown, No},
		{"distances are kept", mapped([2]uint16{40000, 5000}, [2]uint16{40007, 5007}, [2]uint16{40001, 5001}), Unknown, Yes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.parity, parity(tt.samples))
			require.Equal(t, tt.contiguity, contiguity(predict.Infer(tt.samples).Kind, tt.samples))
		})
	}
}
