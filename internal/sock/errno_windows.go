package sock

import "golang.org/x/sys/windows"

// The syscall.E* names are inventions on Windows; connect returns WSA codes.
var errnoClasses = map[Class][]error{
	Refused:      {windows.WSAECONNREFUSED},
	Reset:        {windows.WSAECONNRESET, windows.WSAECONNABORTED},
	Unreachable:  {windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAEACCES},
	Timeout:      {windows.WSAETIMEDOUT},
	AddrNotAvail: {windows.WSAEADDRNOTAVAIL, windows.WSAEALREADY, windows.WSAEISCONN},
	AddrInUse:    {windows.WSAEADDRINUSE},
	Exhausted:    {windows.WSAEMFILE, windows.WSAENOBUFS},
}
