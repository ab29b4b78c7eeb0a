#!/bin/sh
# Makes the certificates of this folder anew, for a hundred years. They are for tests alone: the keys are everybody's.
# They are kept, so that tests need no openssl and no time for them. Nobody can sign another one: the CA's key is thrown away.
set -eu
cd "$(dirname "$0")"
make() { # name, subject alternative name
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=courier-tests-$1" 2> /dev/null
    printf '%s\n' "subjectAltName=$2" subjectKeyIdentifier=hash authorityKeyIdentifier=keyid > ext  # Python 3.13 asks for these
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -extfile ext -out "$1.pem" 2> /dev/null
    rm "$1.csr" ext
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 36500 -subj /CN=courier-tests-ca -addext keyUsage=critical,keyCertSign,cRLSign 2> /dev/null
make server IP:127.0.0.1,DNS:localhost
make stranger DNS:redis.example
make client DNS:client
rm -f ca.key ca.srl
chmod 600 ./*.key
