// Package natlab is an Internet in a box: hosts with real TCP stacks, and
// between them NATs and firewalls of every behaviour, links with delay, loss
// and jitter, and routers that count down the TTL.
//
// Every host is a Linux network namespace with addresses of its own. One
// process, the test or the program that made the lab, carries the packets
// between them in user space: each host's default route leads into a TUN
// device, and what the kernel sends there the lab reads, delays, translates,
// drops, answers with ICMP or writes to another host's TUN device. So the
// TCP under test is the kernel's, and what lies between is decided here,
// the same way for the same [Config.Seed].
//
//	func TestMain(m *testing.M) { natlab.Main(m) }
//
//	func TestHello(t *testing.T) {
//		lab := natlab.Start(t, natlab.Config{Seed: 1})
//		linux, _ := nat.Profile("linux")
//		router := lab.NAT("router", lab.Internet(), linux, natlab.Link{Delay: 10 * time.Millisecond, Hops: 3})
//		alice := lab.Host("alice", router, natlab.Link{})
//		server := lab.Host("server", nil, natlab.Link{Delay: 5 * time.Millisecond})
//		…
//	}
//
// The example goes on from there. docs/lab.md tells how to write a case and how
// to read a trace.
//
// # Without root
//
// [Main] (for tests) and [Enter] (for programs) run the same binary again
// inside a new user namespace and a new network namespace, where the process
// may make further ones. The machine's own network is not touched and cannot
// be reached from inside. Where the kernel refuses, [Supported] says in one
// line which setting would allow it.
//
// # Two families
//
// IPv4 hosts behind a [NAT] have private addresses and are translated by the
// engine in natlab/nat. IPv6 hosts have global addresses everywhere; the same
// box forwards them untranslated behind a stateful firewall that lets in what
// answers and drops the rest in silence, as home routers do (RFC 6092).
//
// On systems other than Linux the package builds and [New] returns an error.
package natlab
