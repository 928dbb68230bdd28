//go:build unix

package status_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/stuntd"
)

func TestMain(m *testing.M) { natlab.Main(m) }

// startServer starts a server with an admin listener, both on loopback.
func startServer(t *testing.T) (s *stuntd.Server, page string) {
	s, err := stuntd.Start(stuntd.Config{
		Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}, StateDir: t.TempDir(), Admin: stuntd.Admin{Listen: "127.0.0.1:0"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, "http://" + s.AdminAddr().String() + "/"
}

// startNode starts a node that listens under a name and sends back what it hears.
func startNode(t *testing.T, c stunt.Config) *stunt.Node {
	n := &stunt.Node{Config: c}
	ln, err := n.Listen(t.Context(), 0)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { // until the node is closed; the test waits for done
		defer close(done)
		echo(ln)
	}()
	t.Cleanup(func() { n.Close(); <-done })
	return n
}

// echo sends back what comes, one connection after the other.
func echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.Copy(c, c)
		c.Close()
	}
}

// talk dials a peer and sends so many bytes, which come back.
func talk(ctx context.Context, n *stunt.Node, peer string, size int) (stunt.Method, error) {
	c, err := n.Dial(ctx, "tcp", peer)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(make([]byte, size)); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	if got, err := io.Copy(io.Discard, c); err != nil || got != int64(size) {
		return "", fmt.Errorf("%d of %d bytes came back: %w", got, size, err)
	}
	return c.Path().Method, nil
}

// contrast returns what of the page's text has too little contrast against what
// is behind it (WCAG 2.2, 1.4.3: 4.5 to 1), as "text: ratio".
// What a server like the test's does not show is put in for the moment.
const contrast = `(() => {
	document.querySelector(".heat tbody").insertAdjacentHTML("beforeend", "<tr>" + ["s0", "s1", "s2", "s3", "s4", "s5", "none", "empty"].map((c) => '<td class="' + c + '"><b>' + c + "</b><small>1</small></td>").join("") + "</tr>");
	document.querySelector("#state").classList.add("lost");
	const parse = (c) => { const v = c.match(/[\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1] };
	const lum = (c) => { const f = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]) };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c } return parse(getComputedStyle(document.body).backgroundColor) };
	const bad = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement;
		if (!n.data.trim() || !e.checkVisibility() || e.closest("noscript,script,title")) continue;
		const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) bad.add(n.data.trim() + ": " + ratio.toFixed(2));
	}
	return [...bad];
})()`

// TestPage opens the page of a server in a real browser and does what an
// operator does.
func TestPage(t *testing.T) {
	t.Parallel()
	b := startBrowser(t, nil)
	s, page := startServer(t)
	alice := startNode(t, stunt.Config{Server: s.Address(), ID: "alice", NoPortMapping: true})
	b.screen(1280, 900, 1, "light")
	b.open(page)
	b.eval("window.same = true", nil)

	t.Run("live", func(t *testing.T) {
		b.t = t
		b.until(`document.querySelector("#peers tbody th").innerText === "alice"`)
		bob := startNode(t, stunt.Config{Server: s.Address(), ID: "bob", NoPortMapping: true})
		b.until(`document.querySelectorAll("#peers tbody tr").length === 2`)
		method, err := talk(t.Context(), bob, "alice", 1000)
		require.NoError(t, err)
		b.until(`document.querySelector("#methods tbody th")?.innerText === ` + quote(string(method)))
		b.until(`document.querySelector(".heat tbody b").innerText === "100 %"`)
		b.until(`document.querySelector("#recent tbody tr").innerText.includes("direct")`)
		b.until(`document.querySelector("svg rect.direct")`)
		b.until(`document.querySelector("#state").innerText === "live"`)
		b.until(`window.same`)
	})
	t.Run("colours", func(t *testing.T) {
		b.t = t
		_, err := talk(t.Context(), alice, "nobody", 1)
		require.Error(t, err)
		for _, scheme := range []string{"light", "dark"} {
			b.screen(1280, 900, 1, scheme)
			var bad []string
			b.eval(contrast, &bad)
			require.Empty(t, bad, "text that is hard to read in %s", scheme)
		}
	})
	t.Run("phone", func(t *testing.T) {
		b.t = t
		b.screen(360, 740, 2, "light")
		var wide []string
		b.eval(`document.documentElement.scrollWidth <= 360 ? [] : [...document.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > 361 && !e.closest(".scroll")).map((e) => e.tagName + "." + e.className)`, &wide)
		require.Empty(t, wide, "the page itself is not scrolled sideways")
	})
	t.Run("keyboard and names", func(t *testing.T) {
		b.t = t
		b.screen(1280, 900, 1, "light")
		b.eval("document.activeElement.blur()", nil)
		var reached []string
		for range 30 {
			b.press("Tab", 9)
			var at string
			b.eval(`document.activeElement.innerText?.slice(0, 10) || document.activeElement.id || document.activeElement.tagName`, &at)
			reached = append(reached, at)
		}
		for _, want := range []string{"Dials", "NATs", "Limits", "Peers", "Metrics", "peer", "Find"} {
			require.Contains(t, reached, want)
		}
		var tree struct {
			Nodes []struct {
				Ignored          bool
				Role, Name       struct{ Value string }
				Properties       []struct{ Name string }
				BackendDOMNodeID int
			}
		}
		b.into(&tree, "Accessibility.getFullAXTree", nil)
		named := map[string]int{}
		for _, n := range tree.Nodes {
			switch n.Role.Value {
			case "link", "button", "textbox", "img", "image", "region", "search", "navigation", "figure":
				if n.Role.Value != "search" && n.Role.Value != "figure" {
					require.NotEmpty(t, n.Name.Value, "a %s without a name", n.Role.Value)
				}
				named[n.Role.Value]++
			}
		}
		require.Positive(t, named["textbox"])
		require.Positive(t, named["link"])
		require.Positive(t, named["region"])
	})
	t.Run("find", func(t *testing.T) {
		b.t = t
		b.eval(`document.querySelector("#peer").value = "alice"`, nil)
		b.eval(`document.querySelector("button").click()`, nil)
		b.until(`location.search === "?peer=alice" && document.querySelector("#peers tbody th").innerText === "alice"`)
		b.open(page + "?peer=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E")
		b.until(`document.querySelector("#peers .scroll").innerText.includes("Nobody")`)
		var value string
		b.eval(`document.querySelector("#peer").value`, &value)
		require.Equal(t, "<img src=x onerror=alert(1)>", value, "what was asked for is text")
	})
	require.Empty(t, b.complaints, "the page does nothing that its policy forbids, and throws nothing")
	t.Run("without script", func(t *testing.T) {
		b.t = t
		b.into(nil, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
		b.open(page)
		var refresh, name string
		b.eval(`document.querySelector("meta[http-equiv=refresh]").content`, &refresh)
		b.eval(`document.querySelector("#peers tbody th").innerText`, &name)
		require.Equal(t, "15", refresh)
		require.Equal(t, "alice", name)
		b.into(nil, "Emulation.setScriptExecutionDisabled", map[string]any{"value": false})
	})
	t.Run("lost", func(t *testing.T) {
		b.t = t
		b.open(page)
		b.until(`document.querySelector("#state").innerText === "live"`)
		require.NoError(t, s.Close())
		b.until(`document.querySelector("#state").innerText.includes("lost")`)
	})
	b.t = t
}
