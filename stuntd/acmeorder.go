package stuntd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/acme"
)

// obtain has the authority sign a certificate over a fresh key (RFC 8555
// section 7.4), and returns both in PEM: the key, then the chain.
func (c *acmeCert) obtain(ctx context.Context, host string) ([]byte, error) {
	if err := c.register(ctx); err != nil {
		return nil, fmt.Errorf("the account: %w", err)
	}
	order, err := c.client.AuthorizeOrder(ctx, acme.DomainIDs(host))
	if err != nil {
		return nil, err
	}
	for _, url := range order.AuthzURLs {
		if err := c.prove(ctx, url, host); err != nil {
			return nil, err
		}
	}
	if order, err = c.client.WaitOrder(ctx, order.URI); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := c.client.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text, nil
}

// register makes an account over our key, or finds the one that there is.
func (c *acmeCert) register(ctx context.Context) error {
	account := &acme.Account{}
	if c.Email != "" {
		account.Contact = []string{"mailto:" + c.Email}
	}
	_, err := c.client.Register(ctx, account, acme.AcceptTOS)
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil
	}
	return err
}

// prove shows the authority that the host is ours, if it does not know yet.
func (c *acmeCert) prove(ctx context.Context, url, host string) error {
	z, err := c.client.GetAuthorization(ctx, url)
	if err != nil || z.Status == acme.StatusValid {
		return err
	}
	kind := "tls-alpn-01"
	if c.HTTP != "" {
		kind = "http-01"
	}
	for _, question := range z.Challenges {
		if question.Type != kind {
			continue
		}
		withdraw, err := c.offer(question, host)
		if err != nil {
			return err
		}
		defer withdraw()
		if _, err := c.client.Accept(ctx, question); err != nil {
			return err
		}
		_, err = c.client.WaitAuthorization(ctx, url)
		return err
	}
	return fmt.Errorf("the authority does not ask by %s", kind)
}

// offer has the answer to a question ready until it is withdrawn.
func (c *acmeCert) offer(question *acme.Challenge, host string) (withdraw func(), err error) {
	if c.HTTP == "" {
		cert, err := c.client.TLSALPN01ChallengeCert(question.Token, host)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.byTLS[host] = &cert
		return func() { c.mu.Lock(); defer c.mu.Unlock(); delete(c.byTLS, host) }, nil
	}
	text, err := c.client.HTTP01ChallengeResponse(question.Token)
	if err != nil {
		return nil, err
	}
	path := c.client.HTTP01ChallengePath(question.Token)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byHTTP[path] = text
	return func() { c.mu.Lock(); defer c.mu.Unlock(); delete(c.byHTTP, path) }, nil
}
