package credential

// The bounds of this package as fetcher.Limits lists them; where each is used
// says what it is for.
const (
	MaxConfig       = maxConfig // bytes
	MaxSecret       = maxSecret // bytes
	MaxWarnings     = maxWarnings
	MaxHelperTime   = helperTimeout
	MaxHelperAnswer = maxAnswer // bytes
)
