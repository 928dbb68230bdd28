package natlab

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The reason names a setting that would help, whatever the kernel said.
func TestRefusalNamesTheSetting(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		unix.EPERM:  "", // depends on this machine's settings
		unix.ENOSPC: "user.max_user_namespaces",
		unix.EINVAL: "kernel was built",
	} {
		err := explain(errno)
		require.ErrorIs(t, err, errno)
		require.Contains(t, err.Error(), want)
		require.NotContains(t, err.Error(), "\n")
	}
}
