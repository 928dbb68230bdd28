// Package resume makes one connection of several, one after the other, each over a TCP connection of its own: when the
// path under it dies, both ends are given another one, and go on where the stream stopped.
//
// What a [Conn] needs for that, beside the records of package secure:
//
//   - What was written is kept until the other end has said that it has it, and sent again from there on the next path.
//     1 MiB is kept at first, and up to 4 where that is what holds the stream up. Who writes more waits.
//   - Each end says how far it has got, in control records, which travel between the records of data. So that these
//     always come through, whoever reads the path never stops: what the program does not read is kept, and the other
//     end never sends more than there is room for (its credit). A program that writes and does not read can't stall
//     itself: only data has to wait for a reader.
//   - The end of the stream has a place in it as a byte has, and is acknowledged like one.
//   - A path that is silent is asked for a sign of life, and given up without one. TCP would take a quarter of an hour,
//     and can't see behind a relay.
//
// Every path has its own handshake and so its own keys: bytes that are sent again are sealed again, under another key.
// No nonce is ever used twice, whatever each end believes the other has got; and a key that is stolen opens what went
// over one path only. What ties a path to the connection is the secret of its first handshake, which both ends sign (see
// [secure.Params]).
//
// A path with bytes that were tampered with is a dead path. A peer that breaks the protocol within its own records ends the
// connection.
package resume
