//go:build unix

package status_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/natlab"
)

// A browser is a headless Chromium, driven over the pipe that its DevTools
// protocol has: JSON with a zero byte behind it. One goroutine, that of the test,
// uses it.
type browser struct {
	t       *testing.T
	to      *os.File
	pipe    *os.File // from it
	from    *bufio.Reader
	session string // of the page
	calls   int
	loads   int // pages that are complete
	// complaints are what the page has said on its console, and what the browser
	// has said of it: errors, and what the page's policy has kept it from.
	complaints []string
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts Chromium with an empty page, on a host of a lab if there is
// one. It ends with the test, which is skipped where there is no browser.
func startBrowser(t *testing.T, on *natlab.Host) *browser {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no browser here: apt-get install chromium")
	}
	theirs, to, err := os.Pipe()
	require.NoError(t, err)
	from, theirs2, err := os.Pipe()
	require.NoError(t, err)
	args := []string{"--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars",
		"--force-color-profile=srgb", "--user-data-dir=" + t.TempDir(), "about:blank"}
	cmd := exec.Command(path, args...)
	var run interface {
		Start() error
		Wait() error
	} = cmd
	if on != nil {
		there := on.Command(path, args...)
		cmd, run = there.Cmd, there
	}
	cmd.ExtraFiles = []*os.File{theirs, theirs2} // 3 and 4 there
	require.NoError(t, run.Start())
	theirs.Close()
	theirs2.Close()
	b := &browser{t: t, to: to, pipe: from, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.call("Browser.close", nil)
		to.Close()
		run.Wait() // it has been told, and has lost its pipe
		from.Close()
	})
	var target struct{ TargetID string }
	b.into(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	b.into(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.into(nil, domain+".enable", nil)
	}
	return b
}

// call makes a call and waits for its result.
func (b *browser) call(method string, params any) (json.RawMessage, string) {
	b.calls++
	m := message{ID: b.calls, Method: method}
	if !strings.HasPrefix(method, "Target.") && !strings.HasPrefix(method, "Browser.") {
		m.SessionID = b.session
	}
	if params != nil {
		p, err := json.Marshal(params)
		require.NoError(b.t, err)
		m.Params = p
	}
	raw, err := json.Marshal(m)
	require.NoError(b.t, err)
	b.to.SetDeadline(time.Now().Add(time.Minute))
	if _, err := b.to.Write(append(raw, 0)); err != nil {
		return nil, err.Error()
	}
	for {
		m, err := b.read()
		if err != nil {
			return nil, err.Error()
		}
		switch {
		case m.ID == b.calls && m.Error != nil:
			return nil, m.Error.Message
		case m.ID == b.calls:
			return m.Result, ""
		}
	}
}

// read reads one message. What is no answer is taken note of.
func (b *browser) read() (m message, err error) {
	b.pipe.SetReadDeadline(time.Now().Add(time.Minute)) // a hang is a failure
	raw, err := b.from.ReadBytes(0)
	if err != nil {
		return m, err
	}
	require.NoError(b.t, json.Unmarshal(raw[:len(raw)-1], &m))
	switch m.Method {
	case "Page.loadEventFired":
		b.loads++
	case "Runtime.exceptionThrown", "Log.entryAdded":
		b.complaints = append(b.complaints, string(m.Params))
	case "Runtime.consoleAPICalled":
		if strings.Contains(string(m.Params), `"type":"error"`) {
			b.complaints = append(b.complaints, string(m.Params))
		}
	}
	return m, nil
}

// into makes a call that must work.
func (b *browser) into(v any, method string, params any) {
	b.t.Helper()
	raw, failed := b.call(method, params)
	require.Empty(b.t, failed, method)
	if v != nil {
		require.NoError(b.t, json.Unmarshal(raw, v))
	}
}

// open loads a page and waits until it is complete.
func (b *browser) open(url string) {
	b.t.Helper()
	before := b.loads
	var nav struct{ ErrorText string }
	b.into(&nav, "Page.navigate", map[string]any{"url": url})
	require.Empty(b.t, nav.ErrorText)
	for b.loads == before {
		_, err := b.read()
		require.NoError(b.t, err)
	}
}

// until waits for what an expression says of the page.
func (b *browser) until(expression string) {
	b.t.Helper()
	end := time.Now().Add(time.Minute)
	for time.Now().Before(end) {
		var ok bool
		// The page itself waits, for so long: a promise that ends with a change.
		b.eval(`new Promise((done) => {
			const ok = () => { try { return !!(`+expression+`) } catch { return false } };
			if (ok()) return done(true);
			const o = new MutationObserver(() => { if (ok()) { o.disconnect(); done(true) } });
			o.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
			setTimeout(() => { o.disconnect(); done(ok()) }, 1000);
		})`, &ok)
		if ok {
			return
		}
	}
	require.Fail(b.t, "it did not come to be", "%s", expression)
}

// eval evaluates an expression in the page, and waits if it is a promise. A page
// that goes away meanwhile has no answer.
func (b *browser) eval(expression string, v any) {
	b.t.Helper()
	raw, failed := b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if failed != "" {
		require.Regexp(b.t, "navigated|context|collected", failed, "%s", expression)
		return
	}
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	require.NoError(b.t, json.Unmarshal(raw, &r))
	require.Empty(b.t, r.ExceptionDetails, "%s", expression)
	if v != nil && len(r.Result.Value) > 0 {
		require.NoError(b.t, json.Unmarshal(r.Result.Value, v))
	}
}

// screen makes the window a screen of a kind.
func (b *browser) screen(width, height int, scale float64, scheme string) {
	b.into(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600})
	b.into(nil, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// press presses a key that has a name.
func (b *browser) press(key string, code int) {
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		b.into(nil, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code})
	}
}

// shot returns a PNG of what is to be seen.
func (b *browser) shot() []byte {
	var s struct{ Data string }
	b.into(&s, "Page.captureScreenshot", map[string]any{"format": "png"})
	png, err := base64.StdEncoding.DecodeString(s.Data)
	require.NoError(b.t, err)
	return png
}

func quote(s string) string {
	q, _ := json.Marshal(s) // a string always works
	return string(q)
}
