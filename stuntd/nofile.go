package stuntd

import "log/slog"

// spareFiles are kept for what is not an accepted connection: listeners, dial
// backs (256 at most), certificates, the log.
const spareFiles = 512

// fitFiles raises the limit on open files and lowers the number of
// connections to what it then allows: refusing a connection is better than
// having no file for it, which would stop all listeners.
func fitFiles(l Limits, log *slog.Logger) Limits {
	files, err := raiseFiles()
	if err != nil {
		log.Warn("limit on open files not raised", "err", err)
	}
	if files == 0 {
		return l // unknown, or there is none
	}
	room := max(int64(min(files, 1<<40))-spareFiles, int64(files/2))
	if int64(l.Conns) > room {
		log.Warn("fewer connections than asked for: raise the limit on open files (ulimit -n, LimitNOFILE=)",
			"files", files, "asked", l.Conns, "connections", room)
		l.Conns = int(room)
		return l
	}
	log.Info("limits", "files", files, "connections", l.Conns)
	return l
}
