package portmap

import (
	"testing"
	"time"

	"github.com/gostunt/stunt/natlab"
)

func TestMain(m *testing.M) { natlab.Main(m) }

// patience bounds every wait for something that must happen; it never decides
// what did.
const patience = 30 * time.Second
