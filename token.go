package stunt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

// token returns what Config.Token stands for at this moment.
func (c *Config) token() (string, error) {
	path, ok := strings.CutPrefix(c.Token, "@")
	if !ok {
		return c.Token, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, rendezvous.MaxToken+64)) // and some space around it
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	switch {
	case token == "":
		return "", fmt.Errorf("%s is empty", path)
	case len(token) > rendezvous.MaxToken:
		return "", fmt.Errorf("%s is too long", path)
	}
	return token, nil
}

// checkToken says what is wrong with Config.Token whatever a file of that name
// may hold by the time it is needed.
func (c *Config) checkToken() error {
	if c.Token == "@" {
		return errors.New("the name of the file is missing")
	}
	if len(c.Token) > rendezvous.MaxToken {
		return fmt.Errorf("it has %d characters, at most %d are allowed", len(c.Token), rendezvous.MaxToken)
	}
	return nil
}
