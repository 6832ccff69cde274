package content

// The bounds of this package as fetcher.Limits lists them; where each is used
// says what it is for.
const (
	MaxUnknownSize = maxUnknownSize // bytes
	MaxName        = maxName        // bytes
	MaxPatience    = patience
)
