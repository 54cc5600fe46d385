// Embeds texts through Triton and prints the cosine of the first with each of the others.
//
//     mvn -q compile exec:java -Dexec.args='localhost:8001 "hai con chó" "một con mèo"'

import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.InferTensorContents;
import inference.ModelInferRequest;
import inference.ModelInferResponse;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.PrintStream;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;

public final class Embed {
  static float[][] embed(ManagedChannel channel, List<String> texts) {
    InferTensorContents.Builder contents = InferTensorContents.newBuilder();
    for (String text : texts) {
      contents.addBytesContents(ByteString.copyFromUtf8(text));
    }
    ModelInferRequest request =
        ModelInferRequest.newBuilder()
            .setModelName("embed_text")
            .addInputs(
                ModelInferRequest.InferInputTensor.newBuilder()
                    .setName("text")
                    .setDatatype("BYTES")
                    .addShape(texts.size())
                    .addShape(1)
                    .setContents(contents))
            .addOutputs(
                ModelInferRequest.InferRequestedOutputTensor.newBuilder().setName("embedding"))
            .build();
    ModelInferResponse answer =
        GRPCInferenceServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(10, TimeUnit.SECONDS)
            .modelInfer(request);
    int dim = (int) answer.getOutputs(0).getShape(1);
    FloatBuffer numbers =
        answer
            .getRawOutputContents(0)
            .asReadOnlyByteBuffer()
            .order(ByteOrder.LITTLE_ENDIAN)
            .asFloatBuffer();
    float[][] rows = new float[texts.size()][dim];
    for (float[] row : rows) {
      numbers.get(row);
    }
    return rows;
  }

  public static void main(String[] arguments) throws Exception {
    List<String> texts = Arrays.asList(arguments).subList(1, arguments.length);
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try {
      float[][] rows = embed(channel, texts);
      for (int n = 1; n < rows.length; n++) {
        double cosine = 0;
        for (int i = 0; i < rows[n].length; i++) {
          cosine += rows[0][i] * rows[n][i];
        }
        out.println(String.format(Locale.ROOT, "%.4f %s", cosine, texts.get(n)));
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }
}
