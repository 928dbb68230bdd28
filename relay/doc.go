// Package relay carries the bytes of two peers that cannot reach each other:
// the path of last resort. It has the relay itself, [Server], which a program
// may embed, and what a client of it needs, [Preamble] and [ReadStatus].
//
// # The stream
//
// A stream is plain TCP on a port that it may share with other protocols; its
// first byte, [FirstByte], tells it apart. The client opens with
//
//	0   4  magic, "rlay"
//	4   1  version, 1
//	5  89  ticket
//
// and may send its data right behind. The relay waits until the other end of
// the pair has come. Then it writes one byte to each, a [Status] of 0, and
// from there on passes on what either sends, each end of a direction by
// itself, as TCP does. Any other status is followed by the end: it says why not.
//
// There is no TLS on a stream: what two peers say to each other is encrypted
// between them, a relay can read nothing of it. The ticket is the one secret in
// the clear, and it is of no use to who sees it go by: it serves once, and
// whoever takes the place of an end has no key to prove itself to the other.
//
// # The ticket
//
// Who may use the relay, and with whom, is decided elsewhere: a rendezvous
// server that introduces two peers signs a ticket for each ([Secret.Tickets]).
//
//	 0   1  role: 1 dialer, 2 listener
//	 1  16  pair: an HMAC over dial id and both keys
//	17  32  the holder's key, as an HMAC: the same key looks the same to the
//	        relays of one secret, and like nothing to who sees the ticket go by
//	49   8  expiry, seconds of Unix
//	57  32  HMAC-SHA256(secret, label, all of the above)
//
// A relay pairs the two roles of one pair and nobody else, each once. It needs
// the secret to check that, and nobody to ask; the key is in the ticket so that
// streams can be counted by it.
package relay
