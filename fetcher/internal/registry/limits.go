package registry

// The bounds of this package as fetcher.Limits lists them; where each is used
// says what it is for.
const (
	MaxErrorBody     = maxErrorBody   // bytes
	MaxHeaderBytes   = maxHeaderBytes // of one answer
	MaxRedirects     = maxRedirects
	MaxForeign       = maxForeign // URLs of one descriptor
	MaxAttempts      = maxAttempts
	MaxRetryTime     = retryBudget
	MaxDialTime      = dialTimeout
	MaxHandshakeTime = handshakeTimeout
	MaxHeaderTime    = headerTimeout
	MaxAnswerTime    = answerBudget
	MaxBodyGrace     = bodyGrace
	MinBodyRate      = leastPerSec // bytes in a second
	MaxMirrorTime    = mirrorWait
	MaxMirrorRest    = longestRest
	MaxMirrors       = maxMirrors
	MaxHostsFile     = maxHostsFile  // bytes
	MaxCertFile      = maxCertFile   // bytes
	MaxHostsBytes    = maxHostsBytes // of all files of one registry
	MaxSessions      = maxSessions
	MaxIdleSession   = idleSession
	MaxReadyTime     = keepReady
)
