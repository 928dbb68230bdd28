//go:build !windows && !plan9 && !js && !wasip1

package sock

import "syscall"

var errnoClasses = map[Class][]error{
	Refused: {syscall.ECONNREFUSED},
	Reset:   {syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED},
	// Linux reports a time-exceeded ICMP as EHOSTUNREACH, a prohibited one as
	// EACCES or EPERM; the mapping of the SYN may live on in all of them.
	Unreachable:  {syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EPROTO, syscall.EACCES, syscall.EPERM, syscall.ENOPROTOOPT},
	Timeout:      {syscall.ETIMEDOUT},
	AddrNotAvail: {syscall.EADDRNOTAVAIL, syscall.EALREADY, syscall.EISCONN},
	AddrInUse:    {syscall.EADDRINUSE},
	Exhausted:    {syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM},
}
