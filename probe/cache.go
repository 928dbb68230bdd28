package probe

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CacheConfig says where reports are kept between runs.
type CacheConfig struct {
	// Dir holds one file for each identity; it is made if it is missing. Empty
	// keeps nothing.
	Dir string

	// Identity is whose reports these are, a name or a key's fingerprint of
	// any form. Several processes may share a directory, and an identity.
	Identity string

	// MaxAge is how old a report may be that is used again. Zero is a day,
	// negative is no limit.
	MaxAge time.Duration
}

const (
	defaultMaxAge = 24 * time.Hour
	cacheVersion  = 1
	maxCacheFile  = 16 << 10
)

// entry is the file.
type entry struct {
	Version  int            `json:"version"`
	Identity string         `json:"identity"`
	Network  network        `json:"network"`
	Other    netip.AddrPort `json:"other,omitzero"` // the server's, to save two round trips
	Other6   netip.AddrPort `json:"other6,omitzero"`
	Report   *Report        `json:"report"`
}

// network is what tells one network from another before anything is sent.
type network struct {
	Server  netip.AddrPort `json:"server,omitzero"`
	Server6 netip.AddrPort `json:"server6,omitzero"`
	Gateway netip.Addr     `json:"gateway,omitzero"` // where the system tells
	Subnets []netip.Prefix `json:"subnets,omitempty"`
}

func (a network) equal(b network) bool {
	return a.Server == b.Server && a.Server6 == b.Server6 && a.Gateway == b.Gateway && slices.Equal(a.Subnets, b.Subnets)
}

// RunCached is [Run] with a memory: a report that this identity made on this
// network is returned again, with the time of its measurement, if a short test
// confirms it: two round trips, which show that the public address and the
// kind of mapping are the same. On another network, or if anything differs,
// it is Run, whose report is kept. A report that says less than it could is
// kept too; a file that cannot be read or written is a line in the log.
func RunCached(ctx context.Context, cfg Config, cache CacheConfig) (*Report, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cache.Dir == "" {
		return Run(ctx, cfg)
	}
	here := cfg.network()
	e, err := cache.load()
	if err == nil {
		e.remind(&cfg)
		err = e.usable(here, cache, time.Now())
	}
	if err == nil && int(cfg.Lifetime.Seconds()) > e.Report.LifetimeS {
		err = errors.New("whether a mapping lives as long as is asked is not known")
	}
	if err == nil {
		err = confirm(ctx, cfg, e.Report)
	}
	if err == nil {
		cfg.Logger.Debug("nat report used again", "phase", "probe", "measured", e.Report.Time)
		if cfg.OnMapping != nil {
			early := *e.Report
			cfg.OnMapping(&early)
		}
		return e.Report, nil
	}
	cfg.Logger.Debug("no nat report to use again", "phase", "probe", "err", err)
	e = &entry{Version: cacheVersion, Identity: cache.Identity, Network: here}
	cfg.foundOther = func(other netip.AddrPort) {
		switch {
		case other.Addr().Is4():
			e.Other = other
		case other.Addr().Is6(): // and none is neither
			e.Other6 = other
		}
	}
	if e.Report, err = Run(ctx, cfg); err != nil {
		return nil, err
	}
	if err := cache.save(e); err != nil {
		cfg.Logger.Debug("nat report not kept", "phase", "probe", "err", err)
	}
	return e.Report, nil
}

// remind tells cfg of the other endpoints of a server that was met before, on
// whatever network: what that said last is newer than what was said of it. The
// file may be anybody's.
func (e *entry) remind(cfg *Config) {
	if e.Network.Server == cfg.Server && alike(e.Other.Addr(), cfg.Server.Addr()) {
		cfg.Other = e.Other
	}
	if e.Network.Server6 == cfg.Server6 && alike(e.Other6.Addr(), cfg.Server6.Addr()) {
		cfg.Other6 = e.Other6
	}
}

// network describes where we are.
func (cfg *Config) network() network {
	n := network{Server: cfg.Server, Server6: cfg.Server6, Gateway: cfg.Net.Gateway()}
	prefixes, err := cfg.Net.Prefixes()
	if err != nil {
		return n
	}
	for _, p := range prefixes {
		n.Subnets = append(n.Subnets, p.Masked()) // the host's own part may change, in IPv6 by the day
	}
	slices.SortFunc(n.Subnets, netip.Prefix.Compare)
	n.Subnets = slices.Compact(n.Subnets)
	return n
}

// usable reports why an entry is of no use here; nil if it may be.
func (e *entry) usable(here network, cache CacheConfig, now time.Time) error {
	maxAge := cache.MaxAge
	if maxAge == 0 {
		maxAge = defaultMaxAge
	}
	switch {
	case e.Version != cacheVersion || e.Report.Version != ReportVersion:
		return errors.New("it is of another version")
	case e.Identity != cache.Identity:
		return errors.New("it is another identity's")
	case !e.Network.equal(here):
		return errors.New("the network is another one")
	case e.Report.Time.After(now) || maxAge > 0 && now.Sub(e.Report.Time) > maxAge:
		return errors.New("it is too old")
	case e.Report.Mapping == MappingUnknown:
		return errors.New("it does not say much")
	}
	return nil
}

// confirm does the mapping tests and reports how they contradict the report.
func confirm(ctx context.Context, cfg Config, r *Report) error {
	if !cfg.Server.IsValid() {
		return errors.New("the report is about IPv4")
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	p := newProber(cfg, cfg.Server, cfg.Local)
	p.expect(cfg.Other)
	m, err := p.mappings(ctx, p.reserve())
	if err != nil {
		return err
	}
	defer m.close()
	f := p.known()
	kept := f.first.Port() == f.local.Port()
	now, _ := f.judge(kept)
	switch {
	case !slices.Contains(r.Public, f.first.Addr()):
		return fmt.Errorf("the public address is now %v", f.first.Addr())
	case kept != (r.PortPreserving == Yes):
		return errors.New("ports are preserved now, or were")
	case !f.fits(r.Mapping, now):
		return fmt.Errorf("the mapping is now %v", now)
	case tri(hasGlobal6(cfg.Net)) != r.IPv6.Global:
		return errors.New("IPv6 has come or gone")
	}
	r.Local = []netip.Addr{f.local.Addr()} // which may change within a network
	return nil
}

// fits reports whether the mapping that was found before can be what is seen now:
// less is seen where of the servers that lend their addresses one is gone, and
// without a second connection.
func (f *seen) fits(had, now Mapping) bool {
	byPort, byAddr := f.port.IsValid(), f.addr.IsValid()
	switch {
	case now == had, now == APDM && had == SessionDependent:
		return true
	case !byPort && !byAddr:
		return now == MappingUnknown && had != NoNAT
	case byPort && byAddr:
		return false
	}
	return had == ADM && (now == EIM && byPort || now == APDM && byAddr)
}

// path is the identity's file: its name is a hash, as an identity may be long
// or have slashes.
func (c CacheConfig) path() string {
	sum := sha256.Sum256([]byte(c.Identity))
	name := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	return filepath.Join(c.Dir, "nat-"+name+".json")
}

func (c CacheConfig) load() (*entry, error) {
	f, err := os.Open(c.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCacheFile+1))
	if err != nil {
		return nil, err
	}
	return decodeEntry(b)
}

// decodeEntry reads a file, which anybody may have written, too.
func decodeEntry(b []byte) (*entry, error) {
	if len(b) > maxCacheFile {
		return nil, fmt.Errorf("%d bytes are too many", len(b))
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	if e.Report == nil {
		return nil, errors.New("there is no report")
	}
	return &e, e.Report.check()
}

// Forget removes the report that is kept of the identity, so that the next
// [RunCached] measures all anew. It is no error if there is none.
func (c CacheConfig) Forget() error {
	if c.Dir == "" {
		return nil
	}
	if err := os.Remove(c.path()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// save replaces the file in one step, so that no reader sees half of it.
func (c CacheConfig) save(e *entry) error {
	b, err := json.MarshalIndent(e, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.Dir, "nat-*.tmp") // mode 0600: where one is and was is nobody else's business
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.path())
}
