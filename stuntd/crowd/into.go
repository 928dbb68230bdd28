package crowd

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// WriteInto writes between <!-- mark --> and <!-- /mark --> of a Markdown file,
// instead of what is there.
func WriteInto(file, mark string, write func(io.Writer) error) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(doc, fmt.Appendf(nil, "<!-- %s -->\n", mark))
	_, tail, closed := bytes.Cut(rest, fmt.Appendf(nil, "<!-- /%s -->\n", mark))
	if !found || !closed {
		return fmt.Errorf("%s has no place for %s", file, mark)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s<!-- %s -->\n\n", head, mark)
	if err := write(&b); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n<!-- /%s -->\n%s", mark, tail)
	return os.WriteFile(file, b.Bytes(), 0o644)
}
