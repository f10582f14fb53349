# Only has to be there.
sleep 1000
