"""The statistics of batch normalisation, estimated from data: Algorithm 2 before its step 11."""
