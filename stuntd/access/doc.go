// Package access decides who may use a server, and for what. It holds no
// socket and reads no clock: a [Gate] is asked by package rendezvous, as its
// Admit, about every node that wants a session, and then about what that node
// registers and whom it dials.
//
// There are two sources of what it knows, and a node has to pass both.
//
// A [Token] is a word of the server's operator: who shows it may have these
// names, and listen, dial, and use a relay, until then. It is signed, so the
// server keeps no list of those that it gave out; one that got into the wrong
// hands is named in a deny line.
//
// [Rules] are a file, one rule a line; # begins a comment:
//
//	deny  key   FINGERPRINT     # this key gets no session
//	deny  from  PREFIX          # nobody from there does: 203.0.113.7, 2001:db8::/32
//	deny  token ID              # nobody with that token does
//	deny  name  PATTERN         # nobody may have such a name
//	allow key   FINGERPRINT     # with one such line or more, nobody but these,
//	allow from  PREFIX          # from nowhere but there,
//	allow name  PATTERN         # and under no other names
//	reserve PATTERN KEY…        # such names are for these keys
//	dial  WHO… -> WHOM…         # with one such line or more, only these dials
//
// What a line denies no other line allows. For a name the first reserve line
// that matches it decides. The order of all others is of no matter.
//
// WHO is a pattern of names that the caller has registered at that moment, or
// that its token is for (all of them, if that has a pattern, too), or the
// fingerprint of its key. WHOM is a pattern of what it dials, or a
// fingerprint that it dials: whether it may is decided before the server looks
// whether anybody has that name, so that nothing about the answer, its time
// included, can depend on it. The refusal is the one of a name that nobody has.
//
// In a PATTERN * stands for any characters, or none. A name that has the form
// of a fingerprint is a key's, and only the pattern that spells it out, or *,
// matches it: keys cost nothing, so one that begins as wanted is soon found.
package access
