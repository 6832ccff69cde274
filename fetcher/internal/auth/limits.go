package auth

// The bounds of this package as fetcher.Limits lists them; where each is used
// says what it is for.
const (
	MaxTokenAnswer = maxTokenAnswer // bytes
	MaxToken       = maxToken       // bytes
	MaxExchanges   = maxExchanges   // token requests for one request
	MaxKept        = maxKept        // tokens of one session
	MaxMessage     = maxMessage     // bytes of what Message returns
)
