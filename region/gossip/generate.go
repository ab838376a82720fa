package gossip

//go:generate protoc -I gossippb --go_out=gossippb --go_opt=paths=source_relative gossippb/gossip.proto
