//go:build !linux

package netwatch

import (
	"errors"

	"github.com/gostunt/stunt/internal/sock"
)

// listen has nothing to listen to: the caller polls.
func listen(*sock.Net) (news, error) { return nil, errors.ErrUnsupported }
