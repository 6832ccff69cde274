package manifest

// MaxDescriptors bounds the distinct digests of one document.
const MaxDescriptors = maxDescriptors
