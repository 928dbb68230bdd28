package secure

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math"
)

const (
	// rekeyEvery is the number of records after which both ends take Noise's Rekey, unasked. With full records a key
	// sees at most 2 GiB, far below the 2^34.5 blocks that TLS 1.3 allows AES-GCM (RFC 8446, section 5.5), and who steals
	// a key cannot read what went before. It costs a microsecond.
	rekeyEvery = 1 << 16

	// maxRecords ends a direction long before the 64-bit nonce would repeat: at a million records a second, after nine years.
	maxRecords = 1 << 48
)

var errExhausted = errors.New("secure: too many records on one connection")

// half is the cipher of one direction: Noise's CipherState (Noise specification, section 5.1) with the AEAD driven
// directly, because the one of flynn/noise allocates a nonce for each record.
type half struct {
	aead  cipher.AEAD
	key   [keySize]byte
	n     uint64   // records so far; the next one's nonce
	nonce [12]byte // scratch
}

func newHalf(key [keySize]byte) half { return half{aead: newAEAD(key), key: key} }

func newAEAD(key [keySize]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the size of the key is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the block size of AES is right
	}
	return aead
}

// setNonce writes n as Noise's AESGCM has it: 32 zero bits and n in big endian.
func (h *half) setNonce(n uint64) []byte {
	binary.BigEndian.PutUint64(h.nonce[4:], n)
	return h.nonce[:]
}

// seal appends the encrypted plain to dst. Each call takes the next nonce: what it returns is sent, or nothing is any more.
func (h *half) seal(dst, plain, ad []byte) ([]byte, error) {
	if h.n >= maxRecords {
		return nil, errExhausted
	}
	dst = h.aead.Seal(dst, h.setNonce(h.n), plain, ad)
	h.next()
	return dst, nil
}

// open appends the decrypted sealed to dst, which is sealed[:0] or does not overlap with it. On an error the nonce stays.
func (h *half) open(dst, sealed, ad []byte) ([]byte, error) {
	if h.n >= maxRecords {
		return nil, errExhausted
	}
	dst, err := h.aead.Open(dst, h.setNonce(h.n), sealed, ad)
	if err == nil {
		h.next()
	}
	return dst, err
}

// next moves on to the next record, and to the next key when this one has done its share. The nonce runs on.
func (h *half) next() {
	h.n++
	if h.n%rekeyEvery != 0 {
		return
	}
	var zeros [keySize]byte
	out := h.aead.Seal(nil, h.setNonce(math.MaxUint64), zeros[:], nil)
	h.key = [keySize]byte(out[:keySize])
	h.aead = newAEAD(h.key)
}
