package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxAnswer bounds an answer, in octets: what the lists of the largest clusters
// have stays far below.
const maxAnswer = 256 << 20

// errNone says that an API server has no such list, or that it is none.
var errNone = errors.New("no such list there")

// items asks the API server for a list, of which the fields of T are read. Errors
// say what was to be done, in one line.
func items[T any](ctx context.Context, c *Cluster, what, path string) ([]T, error) {
	at, err := c.server.Parse(c.server.JoinPath("/").Path + path[1:])
	if err != nil {
		return nil, err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	ask.Header.Set("Accept", "application/json")
	r, err := c.client.Do(ask)
	if err != nil {
		return nil, c.unreached(what, err)
	}
	defer r.Body.Close()
	body := io.LimitReader(r.Body, maxAnswer)
	if r.StatusCode != http.StatusOK {
		return nil, c.refused(what, r.StatusCode, body)
	}
	var list struct {
		Kind  string
		Items []T
	}
	if err := json.NewDecoder(body).Decode(&list); err != nil || list.Kind == "" {
		return nil, fmt.Errorf("%s: what answers at %s is no API server", what, c.server.Host)
	}
	return list.Items, nil
}

// unreached is why there was no answer.
func (c *Cluster) unreached(what string, err error) error {
	u := (*url.Error)(nil)
	switch errors.As(err, &u); {
	case u != nil && u.Timeout():
		return fmt.Errorf("%s: the API server at %s does not answer within %s", what, c.server.Host, Patience)
	case u != nil:
		err = u.Err
	}
	return fmt.Errorf("%s: the API server at %s is not reached: %w", what, c.server.Host, err)
}

// refused is what an answer without a list says.
func (c *Cluster) refused(what string, status int, body io.Reader) error {
	switch status {
	case http.StatusForbidden:
		return fmt.Errorf("%w %s", ErrForbidden, what)
	case http.StatusNotFound:
		return fmt.Errorf("%s: the API server at %s: %w", what, c.server.Host, errNone)
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: the API server at %s does not know this user (the credentials are wrong, or have expired)", what, c.server.Host)
	}
	var said struct{ Message string }
	json.NewDecoder(body).Decode(&said) // "" where it is none
	return fmt.Errorf("%s: the API server at %s says %d %q", what, c.server.Host, status, said.Message)
}
