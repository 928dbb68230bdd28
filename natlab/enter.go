package natlab

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// envInside marks the process that runs inside the namespaces.
const envInside = "STUNT_LAB_INSIDE"

func inside() bool { return os.Getenv(envInside) == "1" }

// refusal is why this process could not be started again inside, if it was tried.
var refusal error

// Main is for TestMain. It runs the test binary again inside new user and
// network namespaces, with the same arguments, standard streams, signals and
// exit code; there it runs the tests, then fails if they passed but left
// goroutines behind. Where the kernel refuses it runs them outside, and those
// that [Need] a lab are skipped.
func Main(m *testing.M) {
	_ = Enter() // the tests that need to know ask Need
	code := m.Run()
	if code == 0 {
		if leak := goleak.Find(); leak != nil {
			fmt.Fprintln(os.Stderr, "natlab: goroutines left behind by the tests:", leak)
			code = 1
		}
	}
	os.Exit(code)
}

// Enter runs the program again inside new user and network namespaces and
// exits with its exit code; only there it returns nil. It returns an error,
// for this process, where there can be no lab. Call it first thing in main: a
// program that has begun to work would do so twice.
func Enter() error {
	if inside() {
		return prepare()
	}
	if refusal = supported(); refusal != nil {
		return refusal
	}
	code, err := reexec()
	if err != nil {
		refusal = err
		return err
	}
	os.Exit(code)
	return nil
}

// prepare makes the namespace usable that the process was started in.
var prepare = sync.OnceValue(func() error {
	if err := prepareInside(); err != nil {
		refusal = err
		return err
	}
	return supported()
})

// Supported returns nil if a lab can be made, or in one line why not and which
// setting would allow it. Outside of [Main] and [Enter] it says what they
// would meet, as far as settings tell.
func Supported() error {
	if refusal != nil {
		return refusal
	}
	return supported()
}

// Need skips the test where no lab can be made, or fails it if the environment
// has STUNT_LAB=required.
func Need(t testing.TB) {
	t.Helper()
	err := Supported()
	if err == nil && !inside() {
		err = errors.New("natlab: TestMain does not call natlab.Main")
	}
	if err == nil {
		return
	}
	if os.Getenv("STUNT_LAB") == "required" {
		t.Fatalf("STUNT_LAB=required, but: %v", err)
	}
	t.Skip(err)
}

// Start makes a lab for a test and closes it after the test. The end of the
// trace is logged if the test failed.
func Start(t testing.TB, c Config) *Lab {
	t.Helper()
	Need(t)
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the trace:\n%s", l.trace)
		}
	})
	return l
}
