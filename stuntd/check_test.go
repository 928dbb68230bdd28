package stuntd

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// checked runs "stuntd check" and returns its exit code and what it says.
func checked(t *testing.T, args ...string) (code int, says string) {
	var out, stderr bytes.Buffer
	code = Main(t.Context(), append([]string{"check"}, args...), &out, &stderr)
	return code, out.String() + stderr.String()
}

func TestCheckHere(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	dir := t.TempDir()
	code, says := checked(t, "-state", dir, "-listen", "127.0.0.1:0")
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "made at the first start")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "to look changes nothing")
	require.Contains(t, says, "127.0.0.1, which only this network reaches")

	key, err := selfSigned(dir)
	require.NoError(t, err)
	require.NotNil(t, key)
	_, says = checked(t, "-state", dir, "-listen", s.Addrs()[0].String(), "-public", "stunt.example.com")
	require.Contains(t, says, "ok       key")
	require.Contains(t, says, "is in use, by something that answers STUN")
	require.Contains(t, says, "nodes are told stunt.example.com")
}

func TestCheckHereFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := listen(t)
	defer taken.Close()
	old := time.Now().Add(-20 * 365 * 24 * time.Hour)
	cert, key := writeCert(t, t.TempDir(), old)
	rubbish := filepath.Join(t.TempDir(), "rubbish")
	require.NoError(t, os.WriteFile(rubbish, []byte("x"), 0o600))
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"-listen", "192.0.2.1:3478"}, "wrong    listen"},
		{[]string{"-admin", "192.0.2.1:9478", "-admin-token", rubbish}, "(-admin)"},
		{[]string{"-cluster", "x", "-cluster-secret", rubbish, "-cluster-listen", "192.0.2.1:6222"}, "(-cluster-listen)"},
		{[]string{"-names", rubbish}, "wrong    names"},
		{[]string{"-tokens", "-token-key", rubbish}, "wrong    token key"},
		{[]string{"-listen", taken.Addr().String()}, "in use by another program"},
		{[]string{"-tls-cert", "/nonexistent/c", "-tls-key", "/nonexistent/k"}, "wrong    certificate"},
		{[]string{"-public", "10.0.0.1=::1"}, "wrong    public"},
		{[]string{"-relay-secret", "/nonexistent/secret"}, "wrong    relay secret"},
		{[]string{"-cluster", "x", "-cluster-secret", "/nonexistent/together"}, "wrong    cluster"},
		{[]string{"-access", "/nonexistent/rules"}, "wrong    access"},
		{[]string{"-record", "/nonexistent/folder/record"}, "wrong    record"},
		{[]string{"-admin", "127.0.0.1:0", "-admin-token", "/nonexistent/token"}, "wrong    admin token"},
		{[]string{"-max-conns", "1000000000"}, "wrong    files"},
	} {
		code, says := checked(t, append([]string{"-state", dir, "-listen", "127.0.0.1:0"}, tt.args...)...)
		require.Equal(t, 1, code, "%v: %s", tt.args, says)
		require.Contains(t, says, tt.says)
	}
	code, says := checked(t, "-listen", "127.0.0.1:0", "-tls-cert", cert, "-tls-key", key)
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "ok       certificate")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "server.key"), []byte("x"), 0o600))
	code, says = checked(t, "-state", dir, "-listen", "127.0.0.1:0")
	require.Equal(t, 1, code)
	require.Contains(t, says, "holds no PEM private key")
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Remove(filepath.Join(dir, "server.key")))
		_, err := selfSigned(dir)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(filepath.Join(dir, "server.key"), 0o644))
		code, says = checked(t, "-state", dir, "-listen", "127.0.0.1:0")
		require.Equal(t, 1, code)
		require.Contains(t, says, "others on this machine can read")
	}
}

func TestCheckThere(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	code, says := checked(t, s.Address())
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "ok       relay")
	code, says = checked(t, strings.Replace(s.Address(), "#sha256:", "#sha256:"+strings.Repeat("A", 2), 1))
	require.Equal(t, 2, code, "%s", says)
	require.Equal(t, 1, strings.Count(says, "\n"))
	code, _ = checked(t, "a", "b")
	require.Equal(t, 2, code)
	code, says = checked(t, "-help")
	require.Zero(t, code)
	require.Contains(t, says, "stuntd check [flags]")
}

func TestCheckWithToken(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{StateDir: dir, Access: Access{Tokens: true}})
	code, says := checked(t, s.Address())
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "warning  session")
	var token, stderr bytes.Buffer
	require.Zero(t, Main(t.Context(), []string{"token", "new", "-state", dir}, &token, &stderr), "%s", stderr.String())
	t.Setenv("STUNT_TOKEN", strings.TrimSpace(token.String()))
	code, says = checked(t, s.Address())
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "ok       relay")
}
