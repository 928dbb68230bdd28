package portmap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// Discovery of UPnP devices (UPnP Device Architecture 1.1 section 1.3).
const (
	ssdpPort = 1900

	// ssdpMX is how many seconds devices may take to answer, so that a
	// multicast does not bring all answers at once.
	ssdpMX = "1"
	// ssdpMax bounds an answer; they have some 400 bytes.
	ssdpMax = 2048
	// maxAnswers bounds how many are looked at. A network full of televisions
	// has fewer.
	maxAnswers = 128
)

// ssdpGroup is where devices hear.
var ssdpGroup = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 255, 250}), ssdpPort)

// ssdpWaits are the pauses after each time that the question is sent; together
// they cover ssdpMX.
var ssdpWaits = [...]time.Duration{250 * time.Millisecond, 500 * time.Millisecond, 1250 * time.Millisecond}

// ssdpTargets are what is searched for. Version 2 of a device answers to
// version 1 as well; some routers answer to neither, but to the second.
var ssdpTargets = [...]string{"urn:schemas-upnp-org:device:InternetGatewayDevice:1", "upnp:rootdevice"}

func ssdpQuestion(target string) []byte {
	return []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: " + ssdpMX + "\r\nST: " + target + "\r\n\r\n")
}

// search asks for routers and calls try with where each is described, until it
// reports that it wants no more. from says whose answers count. The gateway is
// asked by its address too, where it is known: some networks lose multicasts.
func search(ctx context.Context, n *sock.Net, gateway netip.Addr, from func(netip.Addr) bool, try func(*url.URL) (done bool)) error {
	c, err := n.ListenUDP()
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, ssdpMax+1)
	seen := make(map[string]bool)
	answers := 0
	for _, wait := range ssdpWaits {
		for _, target := range ssdpTargets {
			q := ssdpQuestion(target)
			if gateway.IsValid() {
				c.WriteToUDPAddrPort(q, netip.AddrPortFrom(gateway, ssdpPort)) // one of the two may fail
			}
			c.WriteToUDPAddrPort(q, ssdpGroup)
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for ctx.Err() == nil {
			n, src, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				break // the deadline, most likely; the next turn tries again
			}
			if answers++; answers > maxAnswers {
				return errors.New("UPnP: too many answers")
			}
			if !from(src.Addr().Unmap()) {
				continue
			}
			u, err := parseSSDP(buf[:n], src.Addr().Unmap())
			if err != nil || seen[u.String()] {
				continue
			}
			seen[u.String()] = true
			if try(u) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errSilence
}

var errNotSSDP = errors.New("not an answer to a search")

// parseSSDP returns where a device that answered from src says that it is
// described. Anybody in the network may have written the answer, so it can only
// name a place at the address that it came from.
func parseSSDP(b []byte, src netip.Addr) (*url.URL, error) {
	if len(b) > ssdpMax {
		return nil, errNotSSDP
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil || r.StatusCode != http.StatusOK {
		return nil, errNotSSDP
	}
	r.Body.Close()
	st := r.Header.Get("St")
	if !strings.Contains(st, ":InternetGatewayDevice:") && st != ssdpTargets[1] {
		return nil, errNotSSDP
	}
	u, err := url.Parse(strings.TrimSpace(r.Header.Get("Location")))
	if err != nil {
		return nil, errNotSSDP
	}
	return u, at(u, src)
}

// at reports why a URL may not be fetched: it has to be one of plain HTTP at
// exactly this address, in figures.
func at(u *url.URL, host netip.Addr) error {
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "http" || err != nil || ip != host || u.User != nil {
		return errElsewhere
	}
	return nil
}

var errElsewhere = errors.New("UPnP: the router refers to another host")
