package stuntd

import (
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// writeCert writes a new certificate and its key as PEM files.
func writeCert(t *testing.T, dir string, at time.Time) (cert, key string) {
	keyDir := t.TempDir()
	c, err := selfSigned(keyDir)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	pemKey, err := os.ReadFile(filepath.Join(keyDir, "server.key"))
	require.NoError(t, err)
	for path, b := range map[string][]byte{cert: pemCert, key: pemKey} {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	return cert, key
}

func TestSelfSignedKeepsItsPin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "us")
	a, err := selfSigned(dir)
	require.NoError(t, err)
	b, err := selfSigned(dir)
	require.NoError(t, err)
	require.Equal(t, rendezvous.PinOf(a.Leaf), rendezvous.PinOf(b.Leaf), "clients hold this")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file is left")
	if runtime.GOOS != "windows" {
		info, err := left[0].Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "nobody else reads the key")
	}
	other, err := selfSigned(t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, rendezvous.PinOf(a.Leaf), rendezvous.PinOf(other.Leaf))
}

func TestDamagedKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "server.key")
	for name, text := range map[string]string{
		"empty":     "",
		"no key":    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
		"cut short": "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := selfSigned(dir)
		require.ErrorContains(t, err, path, name)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(kept), "a new key would lock out all clients without a word")
	}
}

func TestCertificateFiles(t *testing.T) {
	cert, key := writeCert(t, t.TempDir(), time.Now())
	s := start(t, Config{CertFile: cert, KeyFile: key, Public: []string{"127.0.0.1"}})
	c, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	servers, err := rendezvous.ParseServers(s.Address())
	require.NoError(t, err)
	require.Equal(t, rendezvous.PinOf(c.Leaf), servers[0].Pin, "no root vouches for it, so the address has its pin")
	require.NoError(t, client(t, s, rendezvous.ClientConfig{}).Register(t.Context(), "alice"))
}

func TestCertificateIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		began := time.Now().Truncate(time.Second)
		cert, key := writeCert(t, dir, began)
		f, err := loadCert(cert, key)
		require.NoError(t, err)
		go newReloader(slog.New(slog.DiscardHandler), f).run(t.Context())
		old := f.now.Load()

		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Same(t, old, f.now.Load(), "nothing changed")

		_, newKey := writeCert(t, t.TempDir(), began.Add(time.Hour))
		text, err := os.ReadFile(newKey)
		require.NoError(t, err)
		oldText, err := os.ReadFile(key)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(key, text, 0o600))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Same(t, old, f.now.Load(), "half a renewal does not match, and harms nobody")
		require.NoError(t, os.WriteFile(key, oldText, 0o600))

		writeCert(t, dir, began.Add(2*time.Hour))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NotEqual(t, old.Leaf.SerialNumber, f.now.Load().Leaf.SerialNumber)
	})
}

func TestStateDir(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/stuntd:/var/lib/other")
	dir, err := (&Config{}).stateDir()
	require.NoError(t, err)
	require.Equal(t, "/var/lib/stuntd", dir, "systemd's, the first of several")
	dir, err = (&Config{StateDir: "/x"}).stateDir()
	require.NoError(t, err)
	require.Equal(t, "/x", dir)
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_CONFIG_HOME", "/home/u/.config")
	if runtime.GOOS == "linux" {
		dir, err = (&Config{}).stateDir()
		require.NoError(t, err)
		require.Equal(t, "/home/u/.config/stuntd", dir)
		t.Setenv("XDG_CONFIG_HOME", "")
		t.Setenv("HOME", "")
		_, err = (&Config{}).stateDir()
		require.True(t, err != nil && strings.Contains(err.Error(), "-state"), "%v", err)
	}
}
