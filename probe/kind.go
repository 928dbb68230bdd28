package probe

import "strings"

// Short names of kinds, for a label that has to stay small. Like the long ones
// they are stable: servers group by them what they have learnt.
var (
	shortMapping   = []string{"unknown", "none", "eim", "adm", "apdm", "session"}
	shortFiltering = []string{"unknown", "open", "eif", "adf", "apdf", "no-syn-in"}
)

// Kind returns a label of what is in front of the host, in lower-case letters,
// digits, hyphens and slashes, at most 64 of them: mapping, assignment,
// filtering and the answer to an unsolicited SYN, as in
// "apdm/sequential/apdf/silence", and "/ipv6" behind it for a host that may not
// need any of these. It has no address and no number in it: hosts that meet
// others by the same method share it. Empty if the mapping is not known.
func (r *Report) Kind() string {
	if r == nil || r.Mapping == MappingUnknown {
		return ""
	}
	parts := []string{name(shortMapping, r.Mapping), r.Ports.Assignment.String(), name(shortFiltering, r.Filtering), r.Unsolicited.String()}
	if r.IPv6.Global == Yes {
		parts = append(parts, "ipv6")
	}
	return strings.Join(parts, "/")
}
