#!/bin/sh
# A container has no services: packages must not try to start theirs when they are installed.
exit 101
