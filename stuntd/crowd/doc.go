// Package crowd measures what many nodes cost a server. It starts one in a
// process of its own, has light nodes come to it from others, and kills it.
//
// A light node is a session and nothing else: it proves its key in TLS,
// registers a name, keeps its session alive, answers and makes dials, and when
// the session is lost comes back at the times at which a node does
// ([rendezvous.Backoff]). It has an address of its own in 127.0.0.0/8, and while
// it is idle neither a goroutine nor a timer, so that a hundred thousand of them
// leave the machine to the server. What it says on the wire is written down here
// a second time, from rendezvous/spec.md.
//
// [Run] is the whole measurement. The processes are copies of the running
// program, which has to call [Child] before anything else.
package crowd
