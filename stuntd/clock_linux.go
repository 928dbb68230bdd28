package stuntd

import "golang.org/x/sys/unix"

// synchronised reports whether the kernel believes its clock to be kept right
// (adjtimex(2)), as every NTP client tells it.
func synchronised() (bool, error) {
	var t unix.Timex // asks, and changes nothing
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
