package stuntd

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryHere returns how much memory there is for this process, by its control
// group and those around it (cgroup v2) and the machine; 0: not known.
func memoryHere() int64 {
	most := int64(0)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		most = int64(uint64(info.Totalram) * uint64(info.Unit))
	}
	text, _ := readFile("/proc/self/cgroup", 64<<10)
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ok && group != "." {
			b, err := os.ReadFile(path.Join("/sys/fs/cgroup", group, "memory.max"))
			if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n > 0 { // or it is "max"
				most = min(most, n)
			}
			if group == "/" {
				break
			}
			group = path.Dir(group)
		}
	}
	return most
}
