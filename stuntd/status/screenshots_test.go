//go:build unix

package status_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/stuntd"
)

// The pictures of docs/operate.md:
//
//	go test ./stuntd/status -run TestScreenshots -timeout 1h -screenshots "$PWD/docs" -dial-for 24m
var (
	screenshots = flag.String("screenshots", "", "folder to write pictures of the page to")
	dialFor     = flag.Duration("dial-for", time.Minute, "how long nodes dial each other before")
)

// TestScreenshots takes pictures of a server whose nodes dial each other through
// NATs of many kinds.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("pictures are made on demand: -screenshots")
	}
	natlab.Need(t)
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	link := natlab.Link{Delay: 10 * time.Millisecond, Hops: 2, NoIPv6: true}
	host := lab.Host("server", nil, link)
	second := host.AddAddr()
	s, err := stuntd.Start(stuntd.Config{
		Open: host.Do, StateDir: t.TempDir(), Admin: stuntd.Admin{Listen: "127.0.0.1:0"},
		Listen: []string{net.JoinHostPort(host.Addr().String(), "3478"), net.JoinHostPort(host.Addr().String(), "3479"),
			net.JoinHostPort(second.String(), "3478"), net.JoinHostPort(second.String(), "3479")},
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })

	type place struct{ name, profile string }
	places := []place{{"nas", "eim-apdf"}, {"laptop", "linux"}, {"office", "eim-rst"}, {"camera", "eim-eif"}, {"printer", "apdm-delta1"},
		{"phone", "apdm-block512"}, {"tablet", "apdm-random"}, {"shop", "apdm-random"}, {"vps", ""}, {"build-7", "eim-adf"}}
	var nodes []*stunt.Node
	for _, p := range places {
		h := host
		if p.profile == "" {
			h = lab.Host(p.name, nil, link)
		} else {
			c, ok := nat.Profile(p.profile)
			require.True(t, ok, p.profile)
			h = lab.Host(p.name, lab.NAT("nat-"+p.name, nil, c, link), natlab.Link{})
		}
		nodes = append(nodes, startNode(t, stunt.Config{Server: s.Address(), ID: p.name, OpenSocket: h.Do, NoPortMapping: true}))
	}
	for _, n := range nodes {
		_, err := n.Report(t.Context())
		require.NoError(t, err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	talks := 0
	for end := time.Now().Add(*dialFor); time.Now().Before(end); {
		from, to := r.IntN(len(nodes)), r.IntN(len(nodes))
		if from == to {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		method, err := talk(ctx, nodes[from], places[to].name, 1<<16)
		cancel()
		if talks++; err != nil || testing.Verbose() { // a dial that fails is part of the picture
			t.Log(talks, places[from].name, places[to].name, method, err)
		}
		select {
		case <-time.After(time.Duration(r.IntN(2000)) * time.Millisecond): // the pace of what is shown
		case <-t.Context().Done():
		}
	}
	b := startBrowser(t, host)
	page := "http://" + s.AdminAddr().String() + "/"
	for _, p := range []struct {
		name, scheme  string
		width, height int
		scale         float64
	}{{"status-light", "light", 1120, 1180, 1}, {"status-dark", "dark", 1120, 1180, 1}, {"status-phone", "light", 390, 1400, 1}} {
		b.screen(p.width, p.height, p.scale, p.scheme)
		b.open(page)
		b.until(`document.querySelector("#state").innerText === "live"`)
		small := shrink(t, b.shot())
		require.NoError(t, os.WriteFile(filepath.Join(*screenshots, p.name+".png"), small, 0o644))
		assert.Less(t, len(small), 150<<10, p.name)
	}
}

// shrink makes a picture small, by as many colours as a byte can tell apart: none
// of the others is far from one of these.
func shrink(t *testing.T, shot []byte) []byte {
	in, err := png.Decode(bytes.NewReader(shot))
	require.NoError(t, err)
	often := make(map[color.Color]int)
	box := in.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			often[in.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(often), func(a, b color.Color) int { return cmp.Compare(often[b], often[a]) })
	out := image.NewPaletted(box, nil)
	for apart := 2; len(out.Palette) == 0 || len(out.Palette) > 256; apart++ {
		out.Palette = nil
		for _, c := range colours { // the most frequent first: they stay as they are
			if !slices.ContainsFunc(out.Palette, func(p color.Color) bool { return distance(c, p) < apart }) {
				out.Palette = append(out.Palette, c)
			}
		}
	}
	nearest := make(map[color.Color]uint8, len(colours))
	for _, c := range colours {
		nearest[c] = uint8(out.Palette.Index(c))
	}
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[in.At(x, y)])
		}
	}
	var b bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, out))
	return b.Bytes()
}

// distance is the greatest of a channel, of 255.
func distance(a, b color.Color) int {
	p, q := color.NRGBAModel.Convert(a).(color.NRGBA), color.NRGBAModel.Convert(b).(color.NRGBA)
	d := 0
	for _, c := range [][2]uint8{{p.R, q.R}, {p.G, q.G}, {p.B, q.B}, {p.A, q.A}} {
		d = max(d, int(c[0])-int(c[1]), int(c[1])-int(c[0]))
	}
	return d
}
