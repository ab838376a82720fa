package peer

//go:generate protoc -I peerpb --go_out=peerpb --go_opt=paths=source_relative --connect-go_out=peerpb --connect-go_opt=paths=source_relative,package_suffix peerpb/peer.proto
