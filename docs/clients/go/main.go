// Embeds texts through Triton and prints the cosine of the first with each of the others.
//
//	go mod init example.com/embed
//	protoc -I .. --go_out=. --go_opt=module=example.com/embed \
//		--go-grpc_out=. --go-grpc_opt=module=example.com/embed ../triton.proto
//	go mod tidy
//	go run . localhost:8001 "hai con chó" "một con mèo"
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/embed/triton"
)

func embed(ctx context.Context, client triton.GRPCInferenceServiceClient, texts []string) ([][]float32, error) {
	contents := make([][]byte, len(texts))
	for n, text := range texts {
		contents[n] = []byte(text)
	}
	answer, err := client.ModelInfer(ctx, &triton.ModelInferRequest{
		ModelName: "embed_text",
		Inputs: []*triton.ModelInferRequest_InferInputTensor{{
			Name:     "text",
			Datatype: "BYTES",
			Shape:    []int64{int64(len(texts)), 1},
			Contents: &triton.InferTensorContents{BytesContents: contents},
		}},
		Outputs: []*triton.ModelInferRequest_InferRequestedOutputTensor{{Name: "embedding"}},
	})
	if err != nil {
		return nil, err
	}
	dim := int(answer.Outputs[0].Shape[1])
	raw := answer.RawOutputContents[0]
	rows := make([][]float32, len(texts))
	for n := range rows {
		rows[n] = make([]float32, dim)
		for i := range rows[n] {
			bits := binary.LittleEndian.Uint32(raw[4*(n*dim+i):])
			rows[n][i] = math.Float32frombits(bits)
		}
	}
	return rows, nil
}

func main() {
	address, texts := os.Args[1], os.Args[2:]
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := embed(ctx, triton.NewGRPCInferenceServiceClient(connection), texts)
	if err != nil {
		log.Fatal(err)
	}
	for n, row := range rows[1:] {
		var cosine float64
		for i, value := range row {
			cosine += float64(rows[0][i]) * float64(value)
		}
		fmt.Printf("%.4f %s\n", cosine, texts[n+1])
	}
}
