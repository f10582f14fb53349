//! evtchn.
