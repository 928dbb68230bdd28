package stuntd

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/cluster"
)

// Cluster says with which other servers this one is one: their nodes reach each
// other. The zero value is none.
type Cluster struct {
	// Name is the same at all of them: a-z, 0-9 and hyphens. Empty: this server
	// is alone.
	Name string

	// SecretFile holds what they have in common, and nobody else has: 32
	// characters or more. It is what they know each other by, and what tickets for
	// their relays are signed with, unless Relay.SecretFile says otherwise.
	SecretFile string

	// Listen is the TCP address for the other servers, and Routes are some of
	// them, host:port each; see package cluster. The sockets are not opened
	// through Config.Open.
	Listen string
	Routes []string

	// NATS holds the URLs of NATS servers to use in the place of Listen and
	// Routes, and NATSCredentials a file with credentials for these, if need be.
	NATS            []string
	NATSCredentials string

	// NATSCA has the authorities that may vouch for them, in PEM; empty: those of
	// the system. NATSCert and NATSKey are what they know this server by, if they
	// ask for a certificate.
	NATSCA, NATSCert, NATSKey string
}

// check returns what is wrong with the configuration by itself.
func (c *Cluster) check() error {
	switch {
	case c.Name == "" && (c.SecretFile != "" || c.Listen != "" || len(c.Routes) > 0 || len(c.NATS) > 0 || c.NATSCredentials+c.NATSCA+c.NATSCert+c.NATSKey != ""):
		return errors.New("a cluster needs a name")
	case c.Name == "":
		return nil
	case c.SecretFile == "":
		return errors.New("a cluster needs a secret that its servers share")
	}
	cfg := c.bus(cluster.Secret{})
	return cfg.Check()
}

func (c *Cluster) bus(secret cluster.Secret) cluster.Config {
	return cluster.Config{Name: c.Name, Secret: secret, Listen: c.Listen, Routes: c.Routes, URLs: c.NATS, Credentials: c.NATSCredentials,
		CAFile: c.NATSCA, CertFile: c.NATSCert, KeyFile: c.NATSKey}
}

// secrets returns what tickets are signed with, and what the servers of the
// cluster share, if there is one: unless something else was said, the latter
// makes the former.
func (c *Config) secrets() (tickets relay.Secret, together cluster.Secret, err error) {
	if tickets, err = c.Relay.secret(); err != nil || c.Cluster.Name == "" {
		return tickets, together, err
	}
	b, err := os.ReadFile(c.Cluster.SecretFile)
	if err != nil {
		return tickets, together, err
	}
	if together, err = cluster.ParseSecret(b); err != nil {
		return tickets, together, fmt.Errorf("%s: %w", c.Cluster.SecretFile, err)
	}
	if c.Relay.SecretFile == "" {
		tickets = together.Derive("stunt relay secret 1")
	}
	return tickets, together, nil
}

// join makes the server one of its cluster, if it has one.
func (s *Server) join(c *Cluster, secret cluster.Secret) (err error) {
	if c.Name == "" {
		return nil
	}
	if s.bus, err = cluster.Start(c.bus(secret), s.log); err != nil {
		return err
	}
	if at := s.bus.Addr(); at != nil {
		s.log.Info("listening for servers", "local", at)
	}
	s.leave, err = s.meet.Join(s.bus)
	return err
}

// leaveCluster has the others know, and the names of nodes held there for them.
// It may be called again.
func (s *Server) leaveCluster() {
	if s.leave != nil {
		s.leave()
	}
	if s.bus != nil {
		s.bus.Close()
	}
}

// Cluster returns what the server knows of the others of its cluster.
func (s *Server) Cluster() rendezvous.ClusterState { return s.meet.Cluster() }

// clusterFlags adds the flags of the cluster.
func (o *options) clusterFlags(fs *flag.FlagSet) {
	c := &o.Cluster
	fs.StringVar(&c.Name, "cluster", "", "`name` of the cluster of servers that this is one of; without one, it is alone")
	fs.StringVar(&c.SecretFile, "cluster-secret", "", "`file` with the secret that the servers of the cluster share, 32 characters or more")
	fs.StringVar(&c.Listen, "cluster-listen", "", "TCP `address` for the other servers (default "+cluster.DefaultListen+")")
	fs.Var(&list{p: &c.Routes}, "routes", "`host:port` of another server of the cluster; repeat it for more")
	fs.Var(&list{p: &c.NATS}, "nats", "`URL` of a NATS server that connects the cluster, in the place of -routes; repeat it for more")
	fs.StringVar(&c.NATSCredentials, "nats-creds", "", "`file` with credentials for -nats")
	fs.StringVar(&c.NATSCA, "nats-ca", "", "PEM `file` with the authorities that may vouch for -nats; without one, those of the system")
	fs.StringVar(&c.NATSCert, "nats-cert", "", "PEM `file` with the certificate that -nats knows this server by, if it asks for one")
	fs.StringVar(&c.NATSKey, "nats-key", "", "PEM `file` with the key of -nats-cert")
}
