package rendezvous

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// cells returns the rows of all tables of a markdown file, spaces trimmed.
func cells(t *testing.T, file string) (rows [][]string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
		if !ok {
			continue
		}
		var row []string
		for _, c := range strings.Split(line, "|") {
			row = append(row, strings.TrimSpace(c))
		}
		rows = append(rows, row)
	}
	return rows
}

// The specification's tables are those of the code: each kind with its fields,
// and each code with its words.
func TestSpecification(t *testing.T) {
	rows := cells(t, "spec.md")
	row := func(first, second string) []string {
		for _, r := range rows {
			if r[0] == first && strings.EqualFold(r[1], second) {
				return r
			}
		}
		require.Fail(t, "not in spec.md", "%s %s", first, second)
		return nil
	}
	for _, m := range kinds {
		typ := reflect.TypeOf(m).Elem()
		name := map[string]string{"DialRequest": "Dial", "goAhead": "Go"}[typ.Name()]
		if name == "" {
			name = typ.Name()
		}
		r := row(fmt.Sprint(m.kind()), name)
		var fields []string
		for i := range typ.NumField() {
			if number, _, _ := strings.Cut(typ.Field(i).Tag.Get("cbor"), ","); number != "" && number != "-" {
				fields = append(fields, number)
			}
		}
		require.ElementsMatch(t, fields, strings.Fields(r[3]), "the fields of %s", name)
	}
	for c := CodeNone; int(c) < len(codeNames); c++ {
		row(fmt.Sprint(uint16(c)), c.String())
	}
}

// The table of docs/errors.md has every error of the XSTUNT reference, and
// names no code of ours that does not exist.
func TestErrorTable(t *testing.T) {
	var first []string
	for _, r := range cells(t, "../docs/errors.md") {
		first = append(first, r[0])
	}
	table := strings.Join(first, "\n")
	for _, name := range strings.Fields(`NONE FAIL CREATE_SOCKET CONNECT VERSION DUPLICATE_ID PROBE TIMEOUT COMM_TIMEOUT
		ECHO_TIMEOUT SELECT RECEIVE SYN_RECEIVE SYN_SEND ADDRPORT_RECEIVE ADDRPORT_SEND ASYMSERVER ASYMCLIENT PREDICT SEND
		TRYCONNECT SETSOCKOPT BIND LISTEN ASYM_TIMEOUT ACCEPT MATCH SAME_NAT HAIRPIN`) {
		require.Contains(t, table, "`ERR_"+name+"`")
	}
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	defined := map[string]bool{"Code": true}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			for _, name := range v.Names {
				defined[name.Name] = true
			}
		}
		return true
	})
	text, err := os.ReadFile("../docs/errors.md")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile(`\bCode[A-Z]\w*`).FindAllString(string(text), -1) {
		require.True(t, defined[name], "%s is no code", name)
	}
}
