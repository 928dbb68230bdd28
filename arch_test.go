package stunt_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/gostunt/stunt"

// rooms says who may import whom, tests aside: a package below this module is
// named by its folder, others by their module. Whatever is not in a row is
// not allowed there, but for the standard library. docs/architecture.md
// explains the rooms; a new package needs a row.
var rooms = map[string][]string{
	// Pure: neither a socket nor a clock nor anything of somebody else's.
	"predict":    {},
	"natlab/nat": {},

	// The parts, which know nothing of each other. A report and candidates
	// travel through rendezvous as bytes.
	"internal/sock":     {"github.com/libp2p/go-reuseport", "golang.org/x/sys"},
	"internal/netwatch": {"internal/sock", "golang.org/x/sys"},
	"internal/secure":   {"github.com/flynn/noise"},
	"internal/park":     {"internal/sock", "golang.org/x/sys"},
	"internal/keyrate":  {"golang.org/x/time"},
	"internal/resume":   {"internal/secure"},
	"rendezvous":        {"internal/keyrate", "internal/park", "github.com/fxamacker/cbor/v2", "golang.org/x/time"},
	"relay":             {"internal/keyrate", "internal/sock", "golang.org/x/time"},
	"portmap":           {"internal/sock", "github.com/huin/goupnp"},
	"probe":             {"internal/sock", "predict", "github.com/pion/stun/v3", "golang.org/x/time"},

	// For applications that have TURN servers; nothing of ours needs it.
	"relay/turn": {"github.com/pion/stun/v3"},

	// What puts them together.
	"internal/punch": {"internal/sock", "internal/secure", "probe", "predict", "relay", "golang.org/x/sync", "golang.org/x/time"},
	".":              {"internal/sock", "internal/netwatch", "internal/resume", "internal/secure", "internal/punch", "portmap", "probe", "rendezvous", "golang.org/x/sync"},

	// The server, which never sees the root: it does not dial anybody's peers.
	"stuntd/access":  {"rendezvous", "github.com/fxamacker/cbor/v2"},
	"stuntd/check":   {"internal/sock", "probe", "relay", "rendezvous", "github.com/pion/stun/v3"},
	"stuntd/cluster": {"rendezvous", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "golang.org/x/time"},
	"stuntd/status":  {"probe", "rendezvous", "relay", "github.com/prometheus/client_golang"},

	"stuntd":     {"internal/keyrate", "internal/sock", "probe", "rendezvous", "relay", "stuntd/access", "stuntd/check", "stuntd/cluster", "stuntd/status", "golang.org/x/crypto", "golang.org/x/net", "golang.org/x/sys", "golang.org/x/time"},
	"cmd/stuntd": {"stuntd"},

	// What many nodes cost it. The light nodes have nothing of the real ones'.
	"stuntd/crowd": {"internal/park", "relay", "rendezvous", "stuntd", "github.com/fxamacker/cbor/v2", "golang.org/x/sync", "golang.org/x/sys", "golang.org/x/time"},
	"cmd/crowd":    {"stuntd/crowd", "github.com/cavaliergopher/cpio", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"cmd/siege":    {"stuntd/crowd"},
	"cmd/soak":     {"stuntd/crowd"},

	// For tests: TCP without a kernel, in virtual time, and what every connection has to do.
	"internal/tcppipe":    {},
	"internal/streamtest": {"golang.org/x/sync"},

	// The lab, and what measures in it.
	"natlab": {"natlab/nat", "github.com/google/nftables", "github.com/vishvananda/netlink", "github.com/vishvananda/netns",
		"golang.org/x/sys", "go.uber.org/goleak"},
	"natlab/grid": {".", "internal/sock", "natlab", "natlab/nat", "stuntd", "golang.org/x/sync"},

	// The command line has everything in one binary.
	"cmd/stunt": {".", "internal/sock", "probe", "rendezvous", "stuntd", "natlab", "natlab/grid", "natlab/nat", "golang.org/x/sync", "google.golang.org/grpc"},
}

// never are modules that a program must not get by importing a room, over
// however many others.
var never = []struct {
	rooms []string
	what  []string
	why   string
}{
	{[]string{".", "rendezvous", "probe"},
		[]string{module + "/stuntd", module + "/natlab", module + "/cmd", "google.golang.org/grpc", "google.golang.org/protobuf",
			"github.com/prometheus", "github.com/nats-io", "github.com/vishvananda", "github.com/google/nftables", "github.com/gopacket"},
		"a program that dials compiles no server and no lab"},
	{[]string{"stuntd", "cmd/stuntd"},
		[]string{module + "/natlab", module + "/internal/punch", module + "/internal/secure", "github.com/flynn", "google.golang.org/grpc", "github.com/vishvananda"},
		"the server introduces peers; it has nothing of what they say to each other"},
	{[]string{".", "rendezvous", "probe", "predict", "stuntd", "stuntd/status", "cmd/stuntd"},
		[]string{"testing", "github.com/stretchr", "go.uber.org/goleak"},
		"what is for tests stays in tests, and in the lab"},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath, Dir string
	Standard        bool
	Imports, Deps   []string
	GoFiles         []string
	Module          *struct{ Path string }
}

// list returns the module's packages, and by import path all that they need.
func list(t *testing.T, goos string) (ours []pkg, all map[string]pkg) {
	t.Helper()
	c := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Standard,Imports,Deps,GoFiles,Module", "-deps", "./...")
	c.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0", "GOPROXY=off", "GOTOOLCHAIN=local")
	c.Stderr = os.Stderr
	out, err := c.Output()
	require.NoError(t, err, "go list")
	all = make(map[string]pkg)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ours, all
		}
		require.NoError(t, err)
		if all[p.ImportPath] = p; p.Module != nil && p.Module.Path == module {
			ours = append(ours, p)
		}
	}
}

// room is the name of one of our packages in the table.
func room(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func within(path, tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }

func TestRooms(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		ours, all := list(t, goos)
		seen := make(map[string]bool)
		for _, p := range ours {
			name := room(p.ImportPath)
			may, known := rooms[name]
			require.True(t, known, "package %s has no row in the table of rooms", name)
			seen[name] = true
			for _, path := range p.Imports {
				if allowed(path, all, may) {
					continue
				}
				t.Errorf("%s: %s imports %s, which its row does not allow", goos, name, path)
			}
		}
		for name := range rooms {
			require.True(t, seen[name], "the table has a room %q that does not exist", name)
		}
		for _, rule := range never {
			for _, name := range rule.rooms {
				for _, dep := range all[strings.TrimSuffix(module+"/"+name, "/.")].Deps {
					if slices.ContainsFunc(rule.what, func(tree string) bool { return within(dep, tree) }) {
						t.Errorf("%s: %s depends on %s, but %s", goos, name, dep, rule.why)
					}
				}
			}
		}
	}
}

// allowed reports whether a row has a package, which is one of ours, one of
// the standard library, or part of a module.
func allowed(path string, all map[string]pkg, may []string) bool {
	if within(path, module) {
		return slices.Contains(may, room(path))
	}
	return all[path].Standard || slices.ContainsFunc(may, func(m string) bool { return within(path, m) })
}

// TestSocketOptions: they are set in one place, which knows all systems. The
// lab has sockets of its own, of kinds that no other room knows.
func TestSocketOptions(t *testing.T) {
	ours, _ := list(t, "linux")
	files := token.NewFileSet()
	for _, p := range ours {
		if name := room(p.ImportPath); name == "internal/sock" || name == "natlab" {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && (strings.HasPrefix(s.Sel.Name, "Setsockopt") || s.Sel.Name == "SetMultipathTCP") {
					t.Errorf("%v: %s belongs into internal/sock", files.Position(s.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
}
