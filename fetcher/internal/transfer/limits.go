package transfer

// The bounds of this package as fetcher.Limits lists them; where each is used
// says what it is for.
const (
	MaxFailures     = maxFailures
	MaxHostFailures = maxHostFailures
	EnoughProgress  = enough         // bytes
	MinRate         = leastPerSecond // bytes in a second
)
