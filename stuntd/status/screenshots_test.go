//go:build unix

package status_test

import (
	"bytes"
	"context"
	"flag"
	"image/png"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
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
//	go test ./stuntd/status -run TestScreenshots -timeout 1h -screenshots "$PWD/docs" -dial-for 22m
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
		picture, err := png.Decode(bytes.NewReader(b.shot()))
		require.NoError(t, err)
		var small bytes.Buffer // the browser's are written in haste
		require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, picture))
		require.NoError(t, os.WriteFile(filepath.Join(*screenshots, p.name+".png"), small.Bytes(), 0o644))
		assert.Less(t, small.Len(), 150<<10, p.name)
	}
}
