//go:build !linux

package stuntd

import (
	"fmt"
	"runtime"
)

// synchronised is not known here.
func synchronised() (bool, error) {
	return false, fmt.Errorf("%s does not say whether something keeps the clock right", runtime.GOOS)
}
